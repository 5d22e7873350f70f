import { comparedRunRows } from '../compared-runs.js';
import { formatFigure } from '../format-figure.js';
import type { PruneReport } from '../report-schema.js';
import { numbers, words } from '../table-columns.js';
import { h, section, table } from './dom.js';
import { shortNames } from './short-names.js';

/** Other runs of the same dense model next to this one. */
export function comparedRunsSection({ beside = [] }: PruneReport): HTMLElement | undefined {
  if (beside.length === 0) return undefined;
  const names = shortNames(beside.map(({ name }) => name));
  return section(
    'beside',
    'Other runs',
    h(
      'p',
      {},
      'Other runs of the same dense model; this report is about the first. Figures share a row only if they were measured in the same way.',
    ),
    table(
      'This run and others',
      [...words('figure'), ...numbers(...beside.map(({ name }) => names.get(name)!))],
      comparedRunRows(beside, (metric) => formatFigure(metric, 'pruned')).map(({ name, cells }) => [name, ...cells]),
    ),
  );
}
