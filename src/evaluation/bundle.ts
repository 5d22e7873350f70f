/** A token sequence whose last tokens are scored. */
export interface ScoredSequence {
  readonly tokens: Int32Array;
  /** Position of the first token to score, 1 to the last. */
  readonly firstScored: number;
}

/** Sequences with a common prefix that are scored together, such as a question with each answer. */
export type Bundle = readonly ScoredSequence[];

/** Scores of a model for one sequence. */
export interface SequenceScore {
  /** -ln p of every scored token after the tokens before it, in nats. */
  readonly nll: Float32Array;
  /** Whether greedy decoding would generate the scored tokens; ties go to the first. */
  readonly isGreedy: boolean;
}

/** Scores of one bundle, by sequence. */
export interface BundleScore {
  /** Index of the bundle in the input. */
  readonly index: number;
  readonly sequences: readonly SequenceScore[];
}
