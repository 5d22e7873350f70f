import { OptionError } from '../errors.js';
import { factoriseHessian } from '../importance/hessian.js';
import { orderByObc, scoreByObc } from '../importance/obc.js';
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
    throw new OptionError(`step is ${step}; expected a whole number of at least 1, or Infinity for one shot`);
  }
  return {
    needs: 'gram',
    async prepare(problem) {
      validateProblem(problem, 'gram');
      const hessian = await factoriseHessian(problem, { dampening });
      const scored = problem.knownScores
        ? { scores: problem.knownScores }
        : step < problem.unitCount
          ? await orderByObc(problem, hessian, step)
          : { scores: await scoreByObc(problem, hessian) };
      // The factor is as large as the Gram; only what the repair reads outlives the scoring.
      const { size, gram, shift, dampening: used, condition, remarks } = hessian;
      const compensate = async (keep: Int32Array) => ({
        ...(await compensateByLeastSquares(problem, { size, gram, shift }, keep)),
        numerics: { dampening: used, condition },
      });
      return { ...scored, remarks, compensate };
    },
  };
}
