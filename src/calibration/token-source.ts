import { OptionError } from '../errors.js';
import { parseJson } from '../parse-json.js';
import type { Tokenizer } from './tokenizer.js';

/** Items, synchronous or asynchronous. */
export type Items<T> = Iterable<T> | AsyncIterable<T>;

/** Token ids of one document. */
export type TokenIds = ArrayLike<number> & Iterable<number>;

/** Source of tokens: exactly one of the three fields. Every item is a document. */
export type TokenSource =
  | { readonly text: string | Items<string> }
  | { readonly tokens: TokenIds | Items<TokenIds> }
  /** Lines of a JSONL file, each `{"text": "..."}` or `{"input_ids": [...]}`; blank lines are skipped. */
  | { readonly jsonl: Items<string> };

/** A document to tokenize. `place` names it in messages: `document 3`, `line 7`. */
export interface Document {
  readonly place: string;
  readonly content: string | TokenIds;
}

/** One document's tokens, and its text unless the source has token ids. */
export interface TokenizedDocument {
  readonly tokens: Int32Array;
  readonly text?: string;
}

export interface ReadTokensOptions {
  /** Required for text. */
  readonly tokenizer?: Tokenizer | undefined;
  /** Tokens needed of a text; the rest may be skipped. Default all. */
  readonly enough?: number | undefined;
  /** Token ids must be below this. Default: the tokenizer's; without a tokenizer, every id of at least 0 is valid. */
  readonly vocabularySize?: number | undefined;
}

/**
 * Reads a source document by document. Documents are yielded at once, so that a caller may stop early.
 *
 * @throws OptionError for ids that are not integers in the vocabulary (with their position), for malformed JSONL (with
 *   its line), and for text without a tokenizer.
 */
export async function* readTokens(
  source: TokenSource,
  options: ReadTokensOptions = {},
): AsyncGenerator<TokenizedDocument> {
  const vocabularySize = options.vocabularySize ?? options.tokenizer?.vocabularySize ?? Number.POSITIVE_INFINITY;
  for await (const { place, content } of readDocuments(source)) {
    if (typeof content !== 'string') {
      yield { tokens: checkTokenIds(content, { vocabularySize, place }) };
      continue;
    }
    if (options.tokenizer === undefined) {
      throw new OptionError(
        `${place} is text, and there is no tokenizer to read it with; pass a tokenizer, or token ids: lines of {"input_ids": [...]} in a file`,
      );
    }
    const tokens = options.tokenizer.encode(content, { enough: options.enough });
    yield { tokens: checkTokenIds(tokens, { vocabularySize, place }), text: content };
  }
}

/**
 * Copies token ids, checked.
 * @throws OptionError for an id that is not an integer in `[0, vocabularySize)`, naming the place and position.
 */
export function checkTokenIds(
  ids: TokenIds,
  { vocabularySize, place }: { readonly vocabularySize: number; readonly place: string },
): Int32Array {
  const checked = Int32Array.from(ids, Number);
  let position = 0;
  for (const id of ids) {
    if (!Number.isInteger(id) || id < 0 || id >= vocabularySize) {
      const range = Number.isFinite(vocabularySize) ? `integer from 0 to ${vocabularySize - 1}` : 'integer from 0';
      throw new OptionError(
        `${place} has token id ${String(id)} at position ${position}, expected an ${range}; was the text tokenized for another model?`,
      );
    }
    position++;
  }
  return checked;
}

/** Documents of a source before they become tokens. @throws OptionError */
export async function* readDocuments(source: TokenSource): AsyncGenerator<Document> {
  if ('jsonl' in source) yield* readLines(source.jsonl);
  else if ('text' in source) yield* readTexts(source.text);
  else if ('tokens' in source) yield* readTokenLists(source.tokens);
  else throw new OptionError('the token source must have one of "text", "tokens" or "jsonl"');
}

async function* readTexts(text: string | Items<string>): AsyncGenerator<Document> {
  let index = 0;
  for await (const content of typeof text === 'string' ? [text] : checkItems(text, 'text')) {
    const place = `document ${index++}`;
    if (typeof content !== 'string') throw new OptionError(`${place} is ${describe(content)}, expected a string`);
    yield { place, content };
  }
}

async function* readTokenLists(tokens: TokenIds | Items<TokenIds>): AsyncGenerator<Document> {
  let index = 0;
  for await (const content of isTokenIds(tokens) ? [tokens] : checkItems(tokens, 'tokens')) {
    const place = `document ${index++}`;
    if (!isTokenIds(content)) throw new OptionError(`${place} is ${describe(content)}, expected a list of token ids`);
    yield { place, content };
  }
}

async function* readLines(lines: Items<string>): AsyncGenerator<Document> {
  let number = 0;
  for await (const line of checkItems(lines, 'jsonl')) {
    const place = `line ${++number}`;
    if (typeof line !== 'string') throw new OptionError(`${place} is ${describe(line)}, expected a string`);
    if (line.trim() !== '') yield { place, content: parseLine(line, place) };
  }
}

function checkItems<T>(items: Items<T>, field: string): Items<T> {
  const iterable =
    typeof items === 'object' && items !== null && (Symbol.iterator in items || Symbol.asyncIterator in items);
  if (!iterable) throw new OptionError(`"${field}" is ${describe(items)}, expected an iterable`);
  return items;
}

function parseLine(line: string, place: string): string | TokenIds {
  const record = parseJsonLine(line, place);
  if (typeof record.text === 'string') return record.text;
  if (isTokenIds(record.input_ids)) return record.input_ids;
  const wrong = ['text', 'input_ids'].find((field) => record[field] !== undefined);
  const found =
    wrong === undefined ? Object.keys(record).join(', ') || 'no fields' : `"${wrong}" ${describe(record[wrong])}`;
  throw new OptionError(`${place} has ${found}; expected {"text": "..."} or {"input_ids": [...]}`);
}

/** Parses one JSONL line to an object. @throws OptionError naming `place`. */
export function parseJsonLine(line: string, place: string): Readonly<Record<string, unknown>> {
  let value: unknown;
  try {
    value = parseJson(line);
  } catch (cause) {
    throw new OptionError(`${place} is not JSON: ${(cause as Error).message}`, { cause });
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new OptionError(`${place} is ${describe(value)}, expected a JSON object`);
  }
  return value as Record<string, unknown>;
}

/** A list whose first item is not a list: typed arrays, and arrays that `checkTokenIds` checks. */
function isTokenIds(value: unknown): value is TokenIds {
  if (ArrayBuffer.isView(value)) return 'length' in value;
  return Array.isArray(value) && typeof value[0] !== 'object';
}

function describe(value: unknown): string {
  if (value === null) return 'null';
  return Array.isArray(value) ? 'a list' : `of type ${typeof value}`;
}
