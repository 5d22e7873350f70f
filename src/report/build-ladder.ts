import { qualityPerplexity } from './describe-quality.js';
import type { PruneReport, RungPerplexity, RungReport } from './report-schema.js';

/** The table of a ladder: the dense model, then each rung, with the perplexities in their reports. */
export function buildLadder(reports: readonly PruneReport[]): readonly RungReport[] {
  const [first] = reports;
  if (first === undefined) return [];
  const dense: RungReport = {
    requested: 0,
    achieved: 0,
    parameters: first.parameters.before,
    bytes: first.bytes.before,
    ...perplexities(first, 'dense'),
  };
  return [
    dense,
    ...reports.map((report): RungReport => {
      const { sparsity, parameters, bytes, out } = report;
      return {
        requested: sparsity.requested,
        achieved: sparsity.achieved,
        ...(out !== undefined && { out }),
        parameters: parameters.after,
        bytes: bytes.after,
        ...perplexities(report, 'pruned'),
      };
    }),
  ];
}

function perplexities({ metrics, quality }: PruneReport, of: 'dense' | 'pruned'): Pick<RungReport, 'perplexities'> {
  const figures = metrics ?? (quality === undefined ? [] : [qualityPerplexity(quality)]);
  const found = figures.flatMap(({ kind, name, protocol, [of]: value }): RungPerplexity[] =>
    kind === 'perplexity' && value !== undefined
      ? [{ text: name, perplexity: value, ...(protocol && { protocol }) }]
      : [],
  );
  return found.length === 0 ? {} : { perplexities: found };
}

/**
 * Geometric mean of a rung's perplexities over the texts; undefined without any, or if settings of windows differ:
 * tokens with more text before them are easier to predict.
 */
export function meanPerplexity({ perplexities = [] }: Pick<RungReport, 'perplexities'>): number | undefined {
  const keys = new Set(perplexities.map(({ protocol }) => windowSettings(protocol)));
  if (keys.size !== 1) return undefined;
  return Math.exp(perplexities.reduce((sum, { perplexity }) => sum + Math.log(perplexity), 0) / perplexities.length);
}

function windowSettings(protocol: RungPerplexity['protocol']): string {
  const { windowLength, stride, leadingTokens } = protocol ?? {};
  return [windowLength, stride, leadingTokens].join();
}

/** Size and loss of a model. */
export interface ParetoPoint {
  readonly bytes: number;
  /** Lower is better. */
  readonly loss: number;
}

/** Whether no other point is at least as good in both size and loss, and better in one of them. */
export function isParetoOptimal(point: ParetoPoint, points: readonly ParetoPoint[]): boolean {
  return !points.some(
    ({ bytes, loss }) => bytes <= point.bytes && loss <= point.loss && (bytes < point.bytes || loss < point.loss),
  );
}
