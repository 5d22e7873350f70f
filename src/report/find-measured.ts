import { OptionError } from '../errors.js';
import type { PruneReport } from './report-schema.js';

/** Measurements of a report's two models. */
export interface MeasuredPair<T> {
  readonly pruned: T;
  /** Absent where only the pruned model was measured. */
  readonly dense: T | undefined;
}

/**
 * Finds a report's models among those measured.
 * @param place Names the measurements in messages.
 * @throws OptionError when the pruned one is not among them.
 */
export function findMeasured<T extends { readonly model: string }>(
  report: PruneReport,
  models: readonly T[],
  place: string,
): MeasuredPair<T> {
  const pruned = models.find(({ model }) => isSamePath(model, report.out));
  if (pruned === undefined) {
    const found = models.map(({ model }) => model).join(', ') || 'no model';
    throw new OptionError(`${place} measured ${found}, not the pruned model ${report.out ?? '(a dry run has none)'}`);
  }
  return { pruned, dense: models.find(({ model }) => isSamePath(model, report.model)) };
}

/** Whether two paths name one place; they may be written with or without `./` and a slash at the end. */
export function isSamePath(one: string, other: string | undefined): boolean {
  return other !== undefined && plain(one) === plain(other);
}

function plain(path: string): string {
  return path
    .replaceAll('\\', '/')
    .replace(/^(\.\/)+/, '')
    .replace(/\/+$/, '');
}
