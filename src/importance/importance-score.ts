import type { ImportanceProblem } from '../compensation/adapter.js';

/** A formula for importance: one finite number per unit of the problem, larger is kept. */
export type ImportanceScore = (problem: ImportanceProblem) => ArrayLike<number> | Promise<ArrayLike<number>>;
