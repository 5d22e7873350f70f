import { NumericalError, UnsupportedModelError } from '../errors.js';
import { MANIFEST } from '../platform/folder-manifest.js';
import { type EngineChoice, type Files, type Platform, withMembers } from '../platform/platform.js';
import type { JobControl } from '../progress.js';
import type { StageTiming } from '../prune/job.js';
import type { Engine } from '../runtime/engine.js';
import type { PairPlace } from '../storage/json-with-tensors.js';
import type { ModelFolder } from '../storage/model-folder.js';
import { readJsonFile } from '../storage/read-json.js';
import { readListed } from '../storage/read-listed.js';
import { type JobContext, withJob, withPart } from './job-context.js';
import { keyAt, runKey } from './run-key.js';
import { resolveStages, type Stages, type StagesOption } from './stages.js';

/** Options of all resumable calls. */
export interface ResumableRequest extends EngineChoice, JobControl, StagesOption {
  /** Make it although it is there. Default false. */
  readonly force?: boolean | undefined;
  /** Find what is there, and resume what is unfinished. Default true. */
  readonly resume?: boolean | undefined;
}

/** Models that a resumable call reads. */
export interface OpenedModels {
  /** Decide, with the request, what the call makes. */
  readonly folders: readonly ModelFolder[];
  /** Statistics that decide it too. */
  readonly place?: PairPlace | undefined;
}

/** State that a job starts with. */
export interface StartedJob<Opened, Prepared, Found> {
  readonly stages: Stages;
  readonly engine: Engine;
  readonly opened: Opened;
  readonly prepared: Prepared;
  /** Result that the same call made before; undefined where there is none. */
  readonly found: Found | undefined;
}

/** A call that finds what it made before, resumes an unfinished run, or starts again. */
export interface ResumableJob<Opened extends OpenedModels, Prepared, Found, Result> {
  /** Name of the call. Absent: the work is short, and has no checkpoints. */
  readonly call: string | undefined;
  readonly request: ResumableRequest;
  /** The output, as the user named it. Absent: there are no checkpoints. */
  readonly output: string | undefined;
  /** Of what is made; two runs that differ in nothing else share what they measured. Default: none. */
  readonly sparsities?: readonly number[] | undefined;
  /** Opens what is read. */
  open(context: JobContext, stages: Stages): Promise<Opened>;
  /** Whether an earlier run may have left something, so that the output is checked once that is known. Default: decided from `output`. */
  hasEarlierRun?(context: JobContext): Promise<boolean>;
  /** Refuses, before the work, an output that cannot be written. */
  checkOutput(opened: Opened, state: { readonly resuming: boolean; readonly found: Found | undefined }): Promise<void>;
  /** Refuses what else can be refused before the work, and decides what the key depends on. */
  prepare(context: JobContext, opened: Opened): Promise<Prepared>;
  /** Values that decide the result together with the models. Default: the request. */
  keyed?(prepared: Prepared): object;
  /** Result that the same call made before. */
  find(context: JobContext, opened: Opened): Promise<Found | undefined>;
  make(context: JobContext, started: StartedJob<Opened, Prepared, Found>): Promise<Result>;
}

/** Opens, checks, starts the engine, and finds, resumes or starts what a call makes. */
export function runResumable<Opened extends OpenedModels, Prepared, Found, Result>(
  platform: Platform,
  job: ResumableJob<Opened, Prepared, Found, Result>,
): Promise<Result> {
  const { call, request, output, sparsities } = job;
  const { force = false, resume = true, signal } = request;
  const stages = resolveStages(request.stages);
  return withJob(platform, request, async (outer) => {
    const opened = await job.open(outer, stages);
    const hasEarlier = job.hasEarlierRun ?? ((context) => hasEarlierRun(context, [output ?? []].flat()));
    if (!resume || !(await hasEarlier(outer))) await job.checkOutput(opened, { resuming: false, found: undefined });
    const prepared = await job.prepare(outer, opened);
    const keyed = job.keyed?.(prepared) ?? request;
    const engine = await platform.createEngine(request);
    const { folders, place } = opened;
    const key =
      call && (await runKey(platform, keyed, { folders, engine, call, place, signal, onProgress: outer.onProgress }));
    return withJournal(outer, { output, key, sparsities, resume }, async (context, resuming) => {
      const mayBeMade = resuming || (resume && !force);
      const found = mayBeMade ? await job.find(context, opened) : undefined;
      // Another run may have made it since.
      await job.checkOutput(opened, { resuming, found });
      return job.make(context, { stages, engine, opened, prepared, found });
    });
  });
}

/** Last fields of the result of every long call. */
export interface RunFigures {
  readonly timings: readonly StageTiming[];
  readonly peakMemoryBytes?: number;
  readonly remarks: readonly string[];
}

export function figuresOf({ platform, timings, remarks, notes }: JobContext): RunFigures {
  const memory = platform.peakMemoryBytes();
  return {
    timings,
    ...(memory !== undefined && { peakMemoryBytes: memory }),
    remarks: [...remarks, ...notes],
  };
}

interface BuiltFolder {
  readonly out: string;
  readonly source: ModelFolder;
  readonly force?: boolean | undefined;
  /** See `FolderManifest`. Default: the key of the job. */
  readonly run?: string | undefined;
}

/** Makes the folder of a result; see `Files.buildFolder`. */
export function buildOutput<T>(
  { platform, run, workspace }: JobContext,
  { out, source, force, ...given }: BuiltFolder,
  build: (partial: string) => Promise<T>,
): Promise<T> {
  const own = 'run' in given ? given.run : keyAt(platform, run, []);
  return platform.files.buildFolder({ output: out, source: source.root, force, workspace, run: own }, build);
}

/** A remark on a finished result that is to be checked, and was made without a certificate. */
export const UNCHECKED = 'an earlier run wrote this without a certificate; force (--force) makes and checks it again';

/** A remark on a finished result whose quality was not measured. */
export const UNMEASURED =
  'an earlier run wrote this without measuring its quality; measure it by eval, or make it again by force (--force)';

/** Where a run saves its checkpoints. */
export interface RunJournal {
  /** As the user named what it makes; absent: no checkpoints. */
  readonly output: string | undefined;
  /** See `runKey`. */
  readonly key: string | undefined;
  /** Sparsities to make. Default: those without a result. */
  readonly sparsities?: readonly number[] | undefined;
  readonly resume: boolean;
}

/** Runs part of a job with a journal of its own, which goes when the part is complete. */
export async function withJournal<T>(
  context: JobContext,
  { output, key: run, sparsities = [], resume }: RunJournal,
  part: (context: JobContext, resuming: boolean) => Promise<T>,
): Promise<T> {
  const key = keyAt(context.platform, run, sparsities);
  const workspace = output === undefined ? undefined : await context.platform.openWorkspace?.({ output, key, resume });
  if (workspace === undefined) return part(context, false);
  const { found, folder, journal } = workspace;
  // The system's temporary folder may be small, and room is checked where the output goes.
  const { createScratch } = workspace;
  const platform = createScratch ? withMembers(context.platform, { createScratch }) : context.platform;
  let isOver = false;
  try {
    const result = await withPart(
      { ...context, platform, workspace, journal: run === undefined ? undefined : journal, run },
      async (own) => {
        if (found === 'same')
          own.notes.push(
            `resumed from checkpoints of an interrupted run in ${folder}: times exclude what that run had done`,
          );
        if (found === 'other' && resume)
          own.notes.push(
            `${folder} was of a run with another model, options or version, so this one started from the beginning`,
          );
        return part(own, found === 'same');
      },
    );
    isOver = true;
    return result;
  } catch (error) {
    isOver = isDeterministicError(error);
    throw error;
  } finally {
    await workspace.close(isOver);
  }
}

/**
 * Whether the same run would end in the same error on any machine, so that its checkpoints can be deleted: its model cannot be
 * pruned, or holds NaN. A file that cannot be read, an engine that fails, a limit, a full disk or too little memory may be the
 * machine's fault, also where they are the cause of an error about the model.
 */
export function isDeterministicError(error: unknown): boolean {
  if (!(error instanceof UnsupportedModelError || error instanceof NumericalError)) return false;
  return error.cause === undefined || isDeterministicError(error.cause);
}

/** Key of the run in a folder's manifest; undefined where there is none. */
export async function runOf(files: Files, out: string): Promise<string | undefined> {
  const manifest = await readJsonFile(files, files.resolve(out, MANIFEST)).catch(() => undefined);
  return typeof Object(manifest).run === 'string' ? (Object(manifest).run as string) : undefined;
}

/** Whether an earlier run may have made any of these folders, or left an unfinished one. */
export async function hasEarlierRun(
  { platform: { files, hasUnfinishedRun } }: JobContext,
  outputs: readonly string[],
): Promise<boolean> {
  let isSaved = false;
  // One after the other: each opens a folder that only one may use.
  for (const path of new Set(outputs)) if (await hasUnfinishedRun?.(path)) isSaved = true;
  const runs = await Promise.all(outputs.map((out) => runOf(files, out)));
  return isSaved || runs.some((run) => run !== undefined);
}

/** Whether a run of the same key has made a folder, which still holds what was written. */
export async function isFinished(
  { platform, run }: JobContext,
  out: string | undefined,
  sparsities: readonly number[] = [],
): Promise<boolean> {
  if (run === undefined || out === undefined) return false;
  const { files } = platform;
  if ((await runOf(files, out)) !== keyAt(platform, run, sparsities)) return false;
  return readListed(files, files.resolve(out), out).then(
    () => true,
    () => false,
  );
}
