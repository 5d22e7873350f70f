/** Tokens of which the end is scored. */
export interface ScoredSequence {
  readonly tokens: Int32Array;
  /** Position of the first token to score, 1 to the last. */
  readonly firstScored: number;
}

/** Sequences that are scored together because they begin alike, such as a question with each of its answers. */
export type Bundle = readonly ScoredSequence[];

/** Scores of a model for one sequence. */
export interface SequenceScore {
  /** -ln p of every scored token after the tokens before it, in nats. */
  readonly nll: Float32Array;
  /** Whether greedy decoding would write the scored tokens: each is the likeliest where it stands, the first of equals. */
  readonly isGreedy: boolean;
}

/** Scores of one bundle, by sequence. */
export interface BundleScore {
  /** Position of the bundle in what was given. */
  readonly index: number;
  readonly sequences: readonly SequenceScore[];
}
