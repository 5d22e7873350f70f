import { intervalOfDifference } from '../evaluation/change-interval.js';
import type { PerplexityResult, WindowLoss } from '../evaluation/perplexity.js';
import type { MetricReport } from './report-schema.js';

/** A perplexity for a report; older files have no losses by window. */
export type MeasuredPerplexity = Pick<PerplexityResult, 'perplexity' | 'protocol'> &
  Partial<Pick<PerplexityResult, 'windows' | 'bitsPerByte'>>;

/** Perplexity of the dense and the pruned model on one text, with the interval of its change. */
export function perplexityMetric(
  name: string,
  dense: MeasuredPerplexity | undefined,
  pruned: MeasuredPerplexity,
): MetricReport {
  const interval = dense && changeOfLoss(dense.windows, pruned.windows);
  return {
    kind: 'perplexity',
    name,
    ...(dense && { dense: dense.perplexity }),
    pruned: pruned.perplexity,
    ...(pruned.bitsPerByte !== undefined && {
      bitsPerByte: {
        ...(dense?.bitsPerByte !== undefined && { dense: dense.bitsPerByte }),
        pruned: pruned.bitsPerByte,
      },
    }),
    better: 'lower',
    ...(interval && { changeInterval: interval }),
    protocol: pruned.protocol,
  };
}

/** Interval of the relative change: a difference of mean losses is the logarithm of a ratio of perplexities. */
function changeOfLoss(
  dense: readonly WindowLoss[] | undefined,
  pruned: readonly WindowLoss[] | undefined,
): MetricReport['changeInterval'] {
  if (dense === undefined || pruned === undefined || dense.length !== pruned.length) return undefined;
  const sums = (windows: readonly WindowLoss[]) => windows.map(({ nll, tokenCount }) => ({ sum: nll, tokenCount }));
  const found = intervalOfDifference(sums(dense), sums(pruned));
  return found && [Math.expm1(found[0]), Math.expm1(found[1])];
}
