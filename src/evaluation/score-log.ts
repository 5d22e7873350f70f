/** Port to saved scores, from which an interrupted run resumes. */
export interface ScoreLog<T> {
  /** Scores of an earlier run, by index. */
  readonly known: ReadonlyMap<number, T>;
  /** Saves the scores of one batch, in any order of indices. */
  add(scores: readonly T[]): Promise<void>;
}
