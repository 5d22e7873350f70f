/** Port to where scores are kept, so that a run that was stopped resumes where it was. */
export interface ScoreLog<T> {
  /** Scores of an earlier run, by index. */
  readonly known: ReadonlyMap<number, T>;
  /** Keeps the scores of one batch; called in no particular order of indices. */
  add(scores: readonly T[]): Promise<void>;
}
