import { OptionError } from '../errors.js';
import type { PruneReport } from './report-schema.js';
import { isAbsolutePath } from './without-paths.js';

/** Measurements of a report's two models. */
export interface MeasuredPair<T> {
  readonly pruned: T;
  /** Absent if only the pruned model was measured. */
  readonly dense: T | undefined;
}

/**
 * Finds a report's models among the measured ones.
 * @param place Name of the measurements in messages.
 * @throws OptionError when the pruned one is not among them.
 */
export function findMeasured<T extends { readonly model: string }>(
  report: PruneReport,
  models: readonly T[],
  place: string,
): MeasuredPair<T> {
  const find = (path: string | undefined, among: readonly T[]) =>
    among.find(({ model }) => isSamePath(model, path)) ?? among.find(({ model }) => isNameOf(path, model));
  const pruned = find(report.out, models);
  if (pruned === undefined) {
    const found = models.map(({ model }) => model).join(', ') || 'no model';
    throw new OptionError(`${place} measured ${found}, not the pruned model ${report.out ?? '(a dry run has none)'}`);
  }
  const others = models.filter((measured) => measured !== pruned);
  return { pruned, dense: find(report.model, others) };
}

/** Whether a measured path is that of a report's model; saved reports contain names instead of absolute paths. */
export const isSameModel = (path: string, name: string | undefined): boolean =>
  isSamePath(path, name) || isNameOf(name, path);

/** Whether an absolute path ends in a name. */
function isNameOf(name: string | undefined, path: string): boolean {
  return name !== undefined && isAbsolutePath(path) && !isAbsolutePath(name) && plain(path).endsWith(`/${plain(name)}`);
}

/** Whether two paths name one place; they may be written with or without `./` and a slash at the end. */
function isSamePath(one: string, other: string | undefined): boolean {
  return other !== undefined && plain(one) === plain(other);
}

function plain(path: string): string {
  return path
    .replaceAll('\\', '/')
    .replace(/^(\.\/)+/, '')
    .replace(/\/+$/, '');
}
