/** Port to a model that predicts the next token; `createLanguageModel` makes one of a session. */
export interface LanguageModel {
  /** V, the number of logits; undefined when the graph leaves it open. */
  readonly vocabularySize: number | undefined;
  /** Whether a reader keeps keys and values, or reads everything again for every token. */
  readonly hasCache: boolean;
  /**
   * Scores tokens: -ln p(token | the tokens before it), in nats.
   *
   * @param sequences B sequences of one length S, at least 2.
   * @param firstScored Position of the first scored token, 1 to S - 1.
   * @returns `[B, S - firstScored]`, row-major.
   * @throws EngineError, or OptionError for sequences of unequal length.
   */
  score(sequences: readonly Int32Array[], firstScored: number): Promise<Float32Array>;
  /**
   * Scores several continuations of one context, which is read once where the model has a cache.
   * @returns For every continuation, -ln p of each of its tokens.
   * @throws EngineError, or OptionError when the context or a continuation is empty.
   */
  scoreContinuations(context: Int32Array, continuations: readonly Int32Array[]): Promise<Float32Array[]>;
  /** Starts reading; readers are independent of each other. */
  createReader(): Reader;
  /** Frees the model's memory; it cannot be used again. */
  release(): Promise<void>;
}

/** Sequences on the way through a model, which remembers what it has read of them. */
export interface Reader {
  /**
   * Reads further tokens of the same B sequences.
   *
   * @param tokens B lists of one length, at least 1.
   * @returns Logits of the token after them, `[B, V]` row-major; valid until the next call.
   */
  read(tokens: readonly Int32Array[]): Promise<Float32Array>;
}
