import { NumericalError, OptionError } from '../errors.js';
import type { ImportanceScore } from '../importance/importance-score.js';
import { findNonFinite } from '../linalg/matrix-block.js';
import type { CompensationAdapter, ImportanceProblem, StatisticsNeed } from './adapter.js';
import { REPAIRS, type Repair, type RepairName } from './repairs.js';
import { validateProblem } from './validate-problem.js';

export interface ImportanceAdapterOptions {
  /** Statistics that the score reads; those of the repair are added automatically. Default `moments`. */
  readonly needs?: StatisticsNeed;
  /** Default `none`. */
  readonly repair?: RepairName;
  /** For least-squares repairs: fraction of the mean of the Hessian's diagonal, at least 0. Default 0.01. */
  readonly dampening?: number;
}

/**
 * Makes a pruning method from an importance formula and a repair.
 *
 * @param score One finite number per unit, larger is kept.
 * @throws OptionError for an unknown repair, need or dampening.
 * @example
 * const keepTheLoudest = createImportanceAdapter(({ statistics }) => statistics.variance, { repair: 'bias' });
 */
export function createImportanceAdapter(
  score: ImportanceScore,
  { needs = 'moments', repair = 'none', dampening = 0.01 }: ImportanceAdapterOptions = {},
): CompensationAdapter {
  if (!Object.hasOwn(REPAIRS, repair)) {
    throw new OptionError(`repair is ${String(repair)}; expected one of ${Object.keys(REPAIRS).join(', ')}`);
  }
  checkDampening(dampening);
  const row: Repair = REPAIRS[repair];
  const allNeeds = largerNeed(needs, row.needs);
  return {
    needs: allNeeds,
    async prepare(problem) {
      validateProblem(problem, allNeeds);
      return {
        scores: await checkedScores(problem, score),
        compensate: (keep) => row.compensate(problem, keep, { dampening }),
      };
    },
  };
}

/** @throws OptionError unless `dampening` is a finite number of at least 0. */
export function checkDampening(dampening: number): void {
  if (!(Number.isFinite(dampening) && dampening >= 0)) {
    throw new OptionError(`dampening is ${dampening}; expected a number of at least 0, such as 0.01`);
  }
}

const NEEDS: readonly StatisticsNeed[] = ['none', 'moments', 'gram'];

function largerNeed(one: StatisticsNeed, other: StatisticsNeed): StatisticsNeed {
  if (!NEEDS.includes(one)) throw new OptionError(`needs is ${String(one)}; expected one of ${NEEDS.join(', ')}`);
  return NEEDS.indexOf(one) > NEEDS.indexOf(other) ? one : other;
}

async function checkedScores(problem: ImportanceProblem, score: ImportanceScore): Promise<Float64Array> {
  const given = await score(problem);
  if (given?.length !== problem.unitCount) {
    throw new OptionError(
      `the importance function gave ${given?.length ?? 'no'} scores for ${problem.unitCount} units; expected one each`,
    );
  }
  const scores = Float64Array.from(given, Number);
  const invalid = findNonFinite(scores);
  if (invalid >= 0)
    throw new NumericalError(`the importance of unit ${invalid} is ${scores[invalid]}; scores must be finite`);
  return scores;
}
