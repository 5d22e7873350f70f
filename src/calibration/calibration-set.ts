import { concatenate } from '../concatenate.js';
import { OptionError } from '../errors.js';
import { createRandom } from '../linalg/random.js';
import { checkWindowShape, cutWindows, type WindowShape } from './cut-windows.js';
import { beginsWith, findLeadingTokens } from './leading-tokens.js';
import { sha256, sha256OfTokens } from './sha256.js';
import { checkTokenIds, type ReadTokensOptions, readTokens, type TokenSource } from './token-source.js';

/** Tokens on which pruning measures the model. */
export interface CalibrationSet {
  /** `windowCount` windows of `windowLength` token ids each. */
  readonly windows: readonly Int32Array[];
  readonly windowLength: number;
  readonly provenance: CalibrationProvenance;
}

/** Source of calibration windows: enough to reproduce and to compare them. */
export interface CalibrationProvenance {
  /** `default-text`, `text`, `tokens`, `jsonl` or `generated`. */
  readonly kind: string;
  /** SHA-256 of the windows' token ids, 32-bit little-endian: equal exactly when the tokens are equal. */
  readonly tokensSha256: string;
  /** SHA-256 of the texts read, concatenated, in UTF-8; absent for a source of token ids. */
  readonly textSha256?: string;
  /** Documents and tokens read; with `first` reading stops as soon as the windows are full. */
  readonly documentCount: number;
  readonly tokenCount: number;
  /** Windows cut, and windows requested: fewer are cut from a short text. */
  readonly windowCount: number;
  readonly requestedWindowCount: number;
  readonly windowLength: number;
  readonly selection: 'first' | 'sample';
  /** Seed of the sample; absent for `first`. */
  readonly seed?: number;
  /** Tokens that every document and window begins with, such as a BOS token; absent if there are none. */
  readonly leadingTokens?: readonly number[];
  /** Token put after every document; absent if there is none. */
  readonly documentEnd?: number;
  /** The windows that the model generated; absent if there are none. */
  readonly generated?: GeneratedProvenance;
}

/** Settings of generated windows: enough to reproduce them. */
export interface GeneratedProvenance {
  /** Generated windows. */
  readonly windowCount: number;
  /** Their fraction of all windows, in (0, 1]. */
  readonly share: number;
  readonly seed: number;
  readonly startToken: number;
  readonly temperature: number;
  /** Largest number of tokens of a document; a window consists of one or several documents. */
  readonly documentLength: number;
  /** SHA-256 of their token ids alone, 32-bit little-endian. */
  readonly tokensSha256: string;
}

export interface CalibrationSetOptions extends WindowShape, ReadTokensOptions {
  /** Default: the public text that ships with the package. */
  readonly source?: TokenSource | undefined;
  /** `first`: from the start of the text. `sample`: a random sample of all its windows. Default `first`. */
  readonly selection?: 'first' | 'sample' | undefined;
  /** Seed of the sample. Default 0. */
  readonly seed?: number | undefined;
  /**
   * Tokens that every document and every window begins with; they are not added twice. Default: the tokens that the
   * tokenizer's post-processor puts before a text, such as BOS; none without a tokenizer.
   */
  readonly leadingTokens?: readonly number[] | undefined;
  /** Token put after every document, such as EOS. Default none. */
  readonly documentEnd?: number | undefined;
  readonly signal?: AbortSignal | undefined;
}

/**
 * Reads a source and cuts it into windows. Each document is tokenized separately, without special tokens. The tokens of
 * all documents are concatenated, with `leadingTokens` before and `documentEnd` after each.
 *
 * @throws OptionError for a source that does not fill one window, or with documents that are neither text nor valid
 *   token ids.
 */
export async function createCalibrationSet(given: CalibrationSetOptions): Promise<CalibrationSet> {
  const options = { ...given, leadingTokens: given.leadingTokens ?? findLeadingTokens(given.tokenizer) };
  checkWindowShape(options);
  const { windowCount, windowLength, selection = 'first', seed = 0, leadingTokens, documentEnd } = options;
  if (selection !== 'first' && selection !== 'sample')
    throw new OptionError(`selection is "${String(selection)}"; expected first or sample`);
  const kind = options.source === undefined ? 'default-text' : kindOf(options.source);
  const source = options.source ?? { text: (await import('./default-text.js')).DEFAULT_TEXTS };
  const joined = await joinDocuments(source, options);
  const windows = cutWindows(joined.tokens, options, selection === 'sample' ? createRandom(seed) : undefined);
  return {
    windows,
    windowLength,
    provenance: {
      kind,
      tokensSha256: await sha256OfTokens(windows),
      ...(joined.text !== undefined && { textSha256: await sha256(joined.text) }),
      documentCount: joined.documentCount,
      tokenCount: joined.tokens.length,
      windowCount: windows.length,
      requestedWindowCount: windowCount,
      windowLength,
      selection,
      ...(selection === 'sample' && { seed }),
      ...(leadingTokens.length > 0 && { leadingTokens }),
      ...(documentEnd !== undefined && { documentEnd }),
    },
  };
}

interface JoinedDocuments {
  readonly tokens: Int32Array;
  readonly documentCount: number;
  readonly text: string | undefined;
}

async function joinDocuments(
  source: TokenSource,
  options: CalibrationSetOptions & { readonly leadingTokens: readonly number[] },
): Promise<JoinedDocuments> {
  const { leadingTokens, vocabularySize = Number.POSITIVE_INFINITY, documentEnd, signal } = options;
  checkTokenIds(leadingTokens, { vocabularySize, place: 'the tokens that the tokenizer puts before a text' });
  const end = documentEnd === undefined ? [] : [documentEnd];
  const enough = options.selection === 'sample' ? Number.POSITIVE_INFINITY : options.windowCount * options.windowLength;
  const parts: ArrayLike<number>[] = [];
  const texts: string[] = [];
  let tokenCount = 0;
  let documentCount = 0;
  for await (const { tokens, text } of readTokens(source, { ...options, enough })) {
    signal?.throwIfAborted();
    const start = beginsWith(tokens, leadingTokens) ? [] : leadingTokens;
    parts.push(start, tokens, end);
    if (text !== undefined) texts.push(text);
    tokenCount += start.length + tokens.length + end.length;
    documentCount++;
    if (tokenCount >= enough) break;
  }
  return {
    tokens: concatenate(Int32Array, parts),
    documentCount,
    text: texts.length === documentCount ? texts.join('') : undefined,
  };
}

function kindOf(source: TokenSource): string {
  const kinds = ['text', 'tokens', 'jsonl'].filter((kind) => Object.hasOwn(Object(source), kind));
  if (kinds.length !== 1) {
    throw new OptionError(
      `the calibration source has ${kinds.join(' and ') || 'none of text, tokens, jsonl'}; give exactly one`,
    );
  }
  return kinds[0]!;
}
