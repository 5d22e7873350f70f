import { MANIFEST } from '../platform/folder-manifest.js';
import { readKept } from '../platform/journal.js';
import type { Files } from '../platform/platform.js';
import type { PruneReport } from '../report/report-schema.js';
import { readJsonFile } from '../storage/read-json.js';
import { readListed } from '../storage/read-listed.js';
import { readReport } from '../storage/read-report.js';
import { isDeterministicError } from './deterministic-error.js';
import { type JobContext, withPart } from './job-context.js';
import type { PruneRequest } from './prune-request.js';
import { keyAt } from './run-key.js';
import { amountOf, type ResultPlaces, reportEntry } from './write-result.js';

/** A run that may go on where another was cut off. */
export interface KeptRun {
  /** As the user named what it makes; absent: nothing is kept. */
  readonly output: string | undefined;
  /** See `runKey`. */
  readonly key: string | undefined;
  /** What is to be made. Default: what has none. */
  readonly sparsities?: readonly number[];
  readonly resume: boolean;
}

/** Runs part of a job with a journal of its own, which goes when the part is complete. */
export async function withJournal<T>(
  context: JobContext,
  { output, key: run, sparsities = [], resume }: KeptRun,
  part: (context: JobContext, resuming: boolean) => Promise<T>,
): Promise<T> {
  const key = keyAt(context.platform, run, sparsities);
  const workspace = output === undefined ? undefined : await context.platform.openWorkspace?.({ output, key, resume });
  if (workspace === undefined) return part(context, false);
  const { found, folder, journal } = workspace;
  // The system's temporary folder may be small, and room is checked where the output goes.
  const platform = { ...context.platform, ...(workspace.createScratch && { createScratch: workspace.createScratch }) };
  let isOver = false;
  try {
    const result = await withPart(
      { ...context, platform, workspace, journal: run === undefined ? undefined : journal, run },
      async (own) => {
        if (found === 'same')
          own.notes.push(`went on from what ${folder} kept of a run that was cut off: times are of the rest`);
        if (found === 'other' && resume)
          own.notes.push(`${folder} was of a run with another model, options or version, so that this one began anew`);
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

/** What the manifest of a folder says of the run that made it; undefined where there is none. */
export async function runOf(files: Files, out: string): Promise<string | undefined> {
  const manifest = await readJsonFile(files, files.resolve(out, MANIFEST)).catch(() => undefined);
  return typeof Object(manifest).run === 'string' ? (Object(manifest).run as string) : undefined;
}

/** Whether a run may find something that an earlier one made or kept. */
export async function mayBeKept(
  { platform: { files, hasUnfinishedRun } }: JobContext,
  output: string | undefined,
  results: readonly Pick<ResultPlaces, 'out'>[],
): Promise<boolean> {
  const outputs = results.flatMap(({ out }) => out ?? []);
  let isKept = false;
  // One after the other: each looks into a folder that only one may work in.
  for (const path of new Set([output ?? [], ...outputs].flat())) if (await hasUnfinishedRun?.(path)) isKept = true;
  const runs = await Promise.all(outputs.map((out) => runOf(files, out)));
  return isKept || runs.some((run) => run !== undefined);
}

/** Whether a run of the same key has made a folder, which still holds what was written. */
export async function isFinished(
  { platform, run }: JobContext,
  { out, sparsities }: { readonly out: string | undefined; readonly sparsities: readonly number[] },
): Promise<boolean> {
  if (run === undefined || out === undefined) return false;
  const { files } = platform;
  if ((await runOf(files, out)) !== keyAt(platform, run, sparsities)) return false;
  return readListed(files, files.resolve(out), out).then(
    () => true,
    () => false,
  );
}

/** What is said of a finished result that is to be checked, and was made without a certificate. */
export const UNCHECKED = 'an earlier run made this without a certificate; force (--force) makes and checks it anew';

/**
 * Reports of results that a run of the same key has made, by their place in the list.
 * @param inside folder in a result's own that its report lies in; empty for that itself; `model` as the user called it
 */
export async function readFinished(
  context: JobContext,
  results: readonly ResultPlaces[],
  { inside, model, certify = true }: { readonly inside: string } & Pick<PruneRequest, 'model' | 'certify'>,
): Promise<ReadonlyMap<number, PruneReport>> {
  const { platform, journal } = context;
  const { files } = platform;
  const found = new Map<number, PruneReport>();
  for (const [index, places] of results.entries()) {
    const { out, report: place } = places;
    if (out === undefined || !(await isFinished(context, { out, sparsities: [amountOf(places)] }))) continue;
    const path = place && files.resolve(place.folder ?? out, place.folder ? '' : inside, `${place.name}.json`);
    // What cannot be read is made again.
    const written = path === undefined ? undefined : await readReport(files, path).catch(() => undefined);
    const report = written ?? (await readKept<PruneReport>(journal, reportEntry(index)));
    // It may have been moved since, and a saved report has names for paths.
    if (report === undefined) continue;
    const remarks = certify && report.certificate === undefined ? [...report.remarks, UNCHECKED] : report.remarks;
    found.set(index, { ...report, remarks, model, out: inside === '' ? out : files.resolve(out, inside) });
  }
  return found;
}
