import type { ImportanceProblem, StatisticsNeed } from '../compensation/adapter.js';
import type { RepairName } from '../compensation/repairs.js';

/** A formula for importance: one finite number per unit of the problem, larger is kept. */
export type ImportanceScore = (problem: ImportanceProblem) => ArrayLike<number> | Promise<ArrayLike<number>>;

/** A score that makes a method: a file with its row, and a line in `METHODS`. */
export interface ScoreRow<Settings extends object = object> {
  readonly description: string;
  /** Where it was published. */
  readonly paper: string;
  /** Statistics that the formula reads. */
  readonly needs: StatisticsNeed;
  /** The method's repair, unless options set another. Default `none`. */
  readonly repair?: RepairName;
  /** Settings of the formula, with their defaults. */
  readonly settings: Settings;
  /** Allowed values of a setting. */
  readonly choices?: { readonly [K in keyof Settings]: readonly Settings[K][] };
  score(problem: ImportanceProblem, settings: Settings): ReturnType<ImportanceScore>;
}
