import { buildHessian } from '../importance/hessian.js';
import type { Compensated, ImportanceProblem, StatisticsNeed } from './adapter.js';
import { compensateByLeastSquares } from './least-squares.js';
import { compensateByMeanBias, outputOfMean } from './mean-bias.js';

export interface RepairOptions {
  /** Fraction of the mean of `diag(2 A)` added to the Hessian's diagonal, at least 0. */
  readonly dampening: number;
}

/** A repair of the remaining channels, independent of the score. Rows of `REPAIRS`. */
export interface Repair {
  readonly description: string;
  readonly needs: StatisticsNeed;
  compensate(problem: ImportanceProblem, keep: Int32Array, options: RepairOptions): Compensated | Promise<Compensated>;
}

/** All repairs by name; a new one is a new row. */
export const REPAIRS = {
  none: {
    description: 'the kept columns stay as they are',
    needs: 'none',
    compensate: () => ({}),
  },
  bias: {
    description: "the removed channels' mean output becomes a bias (FLAP)",
    needs: 'moments',
    compensate: compensateByMeanBias,
  },
  'least-squares': {
    description: 'the kept columns reproduce the output best on the calibration tokens (OBC)',
    needs: 'gram',
    compensate: (problem, keep, options) => compensateByLeastSquares(problem, buildHessian(problem, options), keep),
  },
  'least-squares-and-bias': {
    description:
      'least squares around the means, which a bias restores: never worse on the calibration tokens than either',
    needs: 'gram',
    async compensate(problem, keep, { dampening }) {
      const hessian = buildHessian(problem, { dampening, centred: true });
      const repaired = await compensateByLeastSquares(problem, hessian, keep);
      return { ...repaired, bias: restoredMean(problem, keep, repaired.weight) };
    },
  },
} as const satisfies Record<string, Repair>;

export type RepairName = keyof typeof REPAIRS;

/** Difference of the mean outputs of the unpruned and the repaired layer: `W mu - W'_keep mu_keep`. */
function restoredMean(problem: ImportanceProblem, keep: Int32Array, repaired: Float32Array): Float64Array {
  const dense = compensateByMeanBias(problem, new Int32Array(0)).bias;
  if (keep.length === 0) return dense;
  const pruned = outputOfMean(repaired, problem.statistics.mean, keep);
  return dense.map((value, row) => value - pruned[row]!);
}
