import type { Items } from '../calibration/token-source.js';
import type { Tensor } from '../runtime/engine.js';
import type { Bundle, BundleScore } from './bundle.js';
import type { LogitsTensor } from './decoder.js';

/** Port to a model that predicts the next token; `createLanguageModel` creates one from a session. */
export interface LanguageModel {
  /** V, the number of logits; undefined if the graph does not fix it. */
  readonly vocabularySize: number | undefined;
  /** Whether readers use a KV cache, or read everything again for every token. */
  readonly hasCache: boolean;
  /** Largest batch size. Absent: limited only by memory. */
  readonly rowLimit?: number | undefined;
  /** Elements of keys and values per token of one sequence, over all blocks. Absent: not counted. */
  readonly cacheWidth?: number | undefined;
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
   * Reads sequences and returns all logits.
   * @param sequences B sequences of one length S, at least 1.
   * @returns Logits `[B, S, V]`: row s predicts the token after the first s + 1.
   */
  readLogits(sequences: readonly Int32Array[]): Promise<LogitsTensor>;
  /**
   * Scores bundles of sequences of any lengths, batch by batch; the common prefix of a bundle is read once where the
   * model has a KV cache. Batches depend only on the bundles, not on the skipped ones.
   *
   * @param isKnown Whether the bundle at an index is skipped; batches of skipped bundles are not run.
   * @returns Scores batch by batch, each with all its members.
   * @throws EngineError, or OptionError for a sequence without tokens to score.
   */
  scoreBundles(bundles: Items<Bundle>, isKnown?: (index: number) => boolean): AsyncGenerator<BundleScore[]>;
  /**
   * Starts reading; readers are independent of each other.
   * @param from saved state of a reader of the same model, to resume from with the same logits
   */
  createReader(from?: SavedReader): Reader;
  /** Frees the model's memory; it cannot be used again. */
  release(): Promise<void>;
}

/** Sequences that a model reads part by part, with their state (the KV cache). */
export interface Reader {
  /**
   * Reads further tokens of the same B sequences.
   *
   * @param tokens B lists of one length, at least 1.
   * @returns Logits of the token after them, `[B, V]` row-major; valid until the next call.
   */
  read(tokens: readonly Int32Array[]): Promise<Float32Array>;
  /** State from which another reader can resume, valid until the next `read`. Absent: not supported. */
  save?(): SavedReader;
}

/** State of a reader as plain data: keys and values of the tokens read so far. */
export interface SavedReader {
  /** Tokens read per sequence. */
  readonly length: number;
  readonly tensors: Readonly<Record<string, Tensor>>;
}
