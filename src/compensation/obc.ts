import { OptionError } from '../errors.js';
import { freeBytes } from '../free-bytes.js';
import { buildHessian, factoriseHessian } from '../importance/hessian.js';
import { scoreByObc } from '../importance/obc.js';
import { orderByObc } from '../importance/obc-order.js';
import type { CompensationAdapter } from './adapter.js';
import { checkDampening } from './importance-adapter.js';
import { compensateByLeastSquares } from './least-squares.js';
import { validateProblem } from './validate-problem.js';

export interface ObcOptions {
  /** Fraction of the mean of `diag(2 A)` added to the Hessian's diagonal, at least 0. Default 0.01. */
  readonly dampening: number;
  /** Units removed between two updates, at least 1; Infinity = one shot: score once, remove, repair. Default Infinity. */
  readonly step: number;
}

/**
 * The OBC adapter: score and least-squares repair from one damped Hessian, `H = 2 A + dampening mean(diag(2 A)) I`.
 *
 * @throws OptionError when an option is out of range.
 * @see ZipLM (Kurtic et al., NeurIPS 2023, arXiv 2302.04089)
 */
export function createObcAdapter({ dampening, step }: ObcOptions): CompensationAdapter {
  checkDampening(dampening);
  if (!(step === Number.POSITIVE_INFINITY || (Number.isInteger(step) && step >= 1))) {
    throw new OptionError(`step is ${step}; expected an integer of at least 1, or Infinity for one shot`);
  }
  return {
    needs: 'gram',
    async prepare(problem) {
      validateProblem(problem, 'gram');
      const { knownScores } = problem;
      // With a known order the entire Hessian need not be factorised.
      if (knownScores !== undefined) {
        const hessian = buildHessian(problem, { dampening });
        return { scores: knownScores, compensate: (keep) => compensateByLeastSquares(problem, hessian, keep) };
      }
      const factorised = await factoriseHessian(problem, { dampening });
      const scored =
        step < problem.unitCount
          ? await orderByObc(problem, factorised, step)
          : { scores: await scoreByObc(problem, factorised) };
      // The factor is as large as the Gram matrix; only the parts that the repair reads stay in memory.
      const { lower, remarks, ...hessian } = factorised;
      freeBytes(lower);
      return { ...scored, remarks, compensate: (keep) => compensateByLeastSquares(problem, hessian, keep) };
    },
  };
}
