import { NumericalError, UnsupportedModelError } from '../errors.js';
import type { JobControl } from '../progress.js';
import type { StageTiming } from '../prune/job.js';
import type { Engine } from '../runtime/engine.js';
import { MANIFEST } from '../runtime/folder-manifest.js';
import { type EngineChoice, type Files, type Platform, withMembers } from '../runtime/platform.js';
import type { PairPaths } from '../storage/json-with-tensors.js';
import type { ModelFolder } from '../storage/model-folder.js';
import { readJsonFile } from '../storage/read-json.js';
import { readListed } from '../storage/read-listed.js';
import { type JobContext, withJob, withPart } from './job-context.js';
import { keyAt, runKey } from './run-key.js';
import { resolveStages, type Stages, type StagesOption } from './stages.js';

/** Options of all resumable calls. */
export interface ResumableRequest extends EngineChoice, JobControl, StagesOption {
  /** Replace an existing result. Default false. */
  readonly force?: boolean | undefined;
  /** Return a finished result, or resume an unfinished run. Default true. */
  readonly resume?: boolean | undefined;
}

/** Inputs of a resumable call. */
export interface OpenedModels {
  /** Models that determine the result together with the request. */
  readonly folders: readonly ModelFolder[];
  /** Statistics that also determine it. */
  readonly place?: PairPaths | undefined;
}

/** State that a job starts with. */
export interface StartedJob<Opened, Prepared, Found> {
  readonly stages: Stages;
  readonly engine: Engine;
  readonly opened: Opened;
  readonly prepared: Prepared;
  /** Result of an earlier equal call; undefined if none. */
  readonly found: Found | undefined;
}

/** A call that returns an earlier result, resumes an unfinished run, or starts. */
export interface ResumableJob<Opened extends OpenedModels, Prepared, Found, Result> {
  /** Name of the call. Absent: the work is short, and has no checkpoints. */
  readonly call: string | undefined;
  readonly request: ResumableRequest;
  /** Output path as given. Absent: no checkpoints. */
  readonly output: string | undefined;
  /** Sparsities of the results; runs that differ only in these share measurements. Default: none. */
  readonly sparsities?: readonly number[] | undefined;
  /** Opens the inputs. */
  open(context: JobContext, stages: Stages): Promise<Opened>;
  /** Whether an earlier run may have left files, so that the output is checked later. Default: derived from `output`. */
  hasEarlierRun?(context: JobContext): Promise<boolean>;
  /** Refuses an output that cannot be written. Default: a folder in which there is another result, or one of the models. */
  checkOutput?(opened: Opened, state: { readonly resuming: boolean; readonly found: Found | undefined }): Promise<void>;
  /** Makes further checks, and prepares values of the key. */
  prepare(context: JobContext, opened: Opened): Promise<Prepared>;
  /** Values of the key in addition to the models. Default: the request. */
  keyValues?(prepared: Prepared, opened: Opened): object;
  /** Finds the result of an earlier equal call; not called with `force`. */
  find(context: JobContext, opened: Opened): Promise<Found | undefined>;
  /** Finds results that a run with `force` had replaced before it was interrupted. Default: none. */
  findReplaced?(context: JobContext, opened: Opened): Promise<Found | undefined>;
  make(context: JobContext, started: StartedJob<Opened, Prepared, Found>): Promise<Result>;
}

/** Runs a resumable job: opens inputs, checks, starts the engine; then finds, resumes or makes the result. */
export function runResumable<Opened extends OpenedModels, Prepared, Found, Result>(
  platform: Platform,
  job: ResumableJob<Opened, Prepared, Found, Result>,
): Promise<Result> {
  const { call, request, output, sparsities } = job;
  const { force = false, resume = true, signal } = request;
  const stages = resolveStages(request.stages);
  const checkFolder: NonNullable<typeof job.checkOutput> = async ({ folders }, { found }) => {
    if (output === undefined || found !== undefined) return;
    for (const { root } of folders) await platform.files.checkOutput({ output, source: root, force });
  };
  const checkOutput = job.checkOutput ?? checkFolder;
  return withJob(platform, request, async (outer) => {
    const opened = await job.open(outer, stages);
    const hasEarlier = job.hasEarlierRun ?? ((context) => hasEarlierRun(context, [output ?? []].flat()));
    if (!resume || !(await hasEarlier(outer))) await checkOutput(opened, { resuming: false, found: undefined });
    const prepared = await job.prepare(outer, opened);
    const values = job.keyValues?.(prepared, opened) ?? request;
    const engine = await platform.createEngine(request);
    const { folders, place } = opened;
    const key =
      call && (await runKey(platform, values, { folders, engine, call, place, signal, onProgress: outer.onProgress }));
    return withJournal(outer, { output, key, sparsities, resume }, async (context, resuming) => {
      const find = force ? job.findReplaced : job.find;
      const found = resume ? await find?.call(job, context, opened) : undefined;
      // Another run may have written it in the meantime.
      await checkOutput(opened, { resuming, found });
      return job.make(context, { stages, engine, opened, prepared, found });
    });
  });
}

/** Common fields of the result of every long call. */
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
  /** Key for `FolderManifest`. Default: the job's key. */
  readonly run?: string | undefined;
}

/** Writes the folder of a result; see `Files.buildFolder`. */
export function buildOutput<T>(
  { platform, run, workspace }: JobContext,
  { out, source, force, ...given }: BuiltFolder,
  build: (partial: string) => Promise<T>,
): Promise<T> {
  const key = 'run' in given ? given.run : keyAt(platform, run, []);
  return platform.files.buildFolder({ output: out, source: source.root, force, workspace, run: key }, build);
}

/** Remark on an existing result without a certificate, when one is requested. */
export const UNCHECKED = 'an earlier run wrote this without a certificate; force (--force) writes and checks it again';

/** Remark on an existing result without a quality measurement. */
export const UNMEASURED =
  'an earlier run wrote this without measuring its quality; eval measures it, force (--force) writes it again';

/** Location of a run's checkpoints. */
export interface RunJournal {
  /** Output path as given; absent: no checkpoints. */
  readonly output: string | undefined;
  /** See `runKey`. */
  readonly key: string | undefined;
  /** Sparsities to make. Default: those without a result. */
  readonly sparsities?: readonly number[] | undefined;
  readonly resume: boolean;
}

/** Runs part of a job with its own journal, which is deleted when the part is complete. */
export async function withJournal<T>(
  context: JobContext,
  { output, key: run, sparsities = [], resume }: RunJournal,
  part: (context: JobContext, resuming: boolean) => Promise<T>,
): Promise<T> {
  const key = keyAt(context.platform, run, sparsities);
  const workspace = output === undefined ? undefined : await context.platform.openWorkspace?.({ output, key, resume });
  if (workspace === undefined) return part(context, false);
  const { found, folder, journal } = workspace;
  // The system's temporary folder may be small, and space is checked next to the output.
  const { createScratch } = workspace;
  const platform = createScratch ? withMembers(context.platform, { createScratch }) : context.platform;
  let isFinal = false;
  try {
    const result = await withPart(
      { ...context, platform, workspace, journal: run === undefined ? undefined : journal, run },
      async (started) => {
        if (found === 'same')
          started.notes.push(
            `resumed from checkpoints of an interrupted run in ${folder}: times exclude the work of that run`,
          );
        if (found === 'other' && resume)
          started.notes.push(
            `${folder} belonged to a run with another model, text, options or version, so this run started from the beginning`,
          );
        return part(started, found === 'same');
      },
    );
    isFinal = true;
    return result;
  } catch (error) {
    isFinal = isDeterministicError(error);
    throw error;
  } finally {
    await workspace.close(isFinal);
  }
}

/**
 * Whether an error is independent of the machine, so that checkpoints can be deleted: the model cannot be pruned, or
 * contains NaN. Unreadable files, engine failures, limits, full disks and lack of memory may depend on the machine,
 * also as causes of other errors.
 */
export function isDeterministicError(error: unknown): boolean {
  if (!(error instanceof UnsupportedModelError || error instanceof NumericalError)) return false;
  return error.cause === undefined || isDeterministicError(error.cause);
}

/** Run key in a folder's manifest; undefined if missing. */
export async function runOf(files: Files, out: string): Promise<string | undefined> {
  const manifest = await readJsonFile(files, files.resolve(out, MANIFEST)).catch(() => undefined);
  return typeof Object(manifest).run === 'string' ? (Object(manifest).run as string) : undefined;
}

/** Whether an earlier run may have written or started any of these folders. */
export async function hasEarlierRun(
  { platform: { files, hasUnfinishedRun } }: JobContext,
  outputs: readonly string[],
): Promise<boolean> {
  let isSaved = false;
  // Sequentially: each opens a locked folder.
  for (const path of new Set(outputs)) if (await hasUnfinishedRun?.(path)) isSaved = true;
  const runs = await Promise.all(outputs.map((out) => runOf(files, out)));
  return isSaved || runs.some((run) => run !== undefined);
}

/** Whether a folder was written by a run of the same key, and is unchanged. */
export async function isFinished(
  { platform, run }: JobContext,
  out: string | undefined,
  sparsities: readonly number[] = [],
): Promise<boolean> {
  if (run === undefined || out === undefined) return false;
  const { files } = platform;
  return (await runOf(files, out)) === keyAt(platform, run, sparsities) && isUnchanged(files, out);
}

/** Whether all files that a run wrote into a folder are still there, with their sizes. */
export function isUnchanged(files: Files, out: string): Promise<boolean> {
  return readListed(files, files.resolve(out), out).then(
    () => true,
    () => false,
  );
}
