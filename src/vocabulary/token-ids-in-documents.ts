import { isRecord } from '../parse-json.js';
import type { RenumberedIds } from './renumbered-ids.js';

type Json = Readonly<Record<string, unknown>>;

/** Treatment of a key of a configuration file with token ids. */
interface KeyRule {
  readonly pattern: RegExp;
  /** Whether the model needs the ids. */
  readonly isNeeded: boolean;
  /** The value with new ids; `undefined` if the key is removed. */
  renumber(value: unknown, ids: RenumberedIds): unknown;
}

/** Keys of config.json, generation_config.json, genai_config.json and tokenizer_config.json with token ids or their number. */
const RULES: readonly KeyRule[] = [
  { pattern: /^(text_|padded_|unpadded_)?vocab_size(_per_layer_input)?$/, isNeeded: false, renumber: renumberSize },
  { pattern: /^(begin_)?suppress_tokens$/, isNeeded: false, renumber: dropMissing },
  { pattern: /^(bad_words|constraints|stop_words)_ids$/, isNeeded: false, renumber: dropSequences },
  { pattern: /^sequence_bias$/, isNeeded: false, renumber: dropBiases },
  { pattern: /^forced_decoder_ids$/, isNeeded: true, renumber: renumberForced },
  { pattern: /(^|_)token_(ids?|index)$/, isNeeded: true, renumber: renumberAll },
  { pattern: /^force_words_ids$/, isNeeded: true, renumber: renumberAll },
  { pattern: /^(bos|eos|pad|unk|sep|cls|mask)_id$/, isNeeded: true, renumber: renumberAll },
];

/** Parts of a model with other vocabularies, such as codebooks. */
const OTHER_PARTS = /^(audio|vision|image|video|speech|vq|codec|acoustic)(_\w+)?_config$/;

/** Renumbers the token ids of a configuration file. */
export function renumberDocument(document: Json, ids: RenumberedIds): Json {
  return renumberValue(document, ids) as Json;
}

function renumberValue(value: unknown, ids: RenumberedIds): unknown {
  if (Array.isArray(value)) return value.map((item) => renumberValue(item, ids));
  if (!isRecord(value)) return value;
  const entries = Object.entries(value).map(([key, item]) => {
    if (OTHER_PARTS.test(key)) return [key, item] as const;
    if (key === 'added_tokens_decoder' && isRecord(item)) return [key, renumberKeys(item, ids)] as const;
    const rule = RULES.find(({ pattern }) => pattern.test(key));
    return [key, rule === undefined ? renumberValue(item, ids) : rule.renumber(item, ids)] as const;
  });
  return Object.fromEntries(entries.filter(([, item]) => item !== undefined));
}

/** Token ids that the model needs, such as `eos_token_id`, in the order of the file. */
export function idsNamedByDocument(document: unknown): readonly number[] {
  if (Array.isArray(document)) return document.flatMap(idsNamedByDocument);
  if (!isRecord(document)) return [];
  return Object.entries(document).flatMap(([key, value]) => {
    if (OTHER_PARTS.test(key)) return [];
    if (key === 'added_tokens_decoder' && isRecord(value)) return Object.keys(value).map(Number).filter(isId);
    const rule = RULES.find(({ pattern }) => pattern.test(key));
    if (rule === undefined) return idsNamedByDocument(value);
    if (!rule.isNeeded) return [];
    const found = key === 'forced_decoder_ids' ? forcedIds(value) : [value];
    return found.flat(MAX_NESTED).filter(isId);
  });
}

/** Special tokens that tokenizer_config.json or special_tokens_map.json names by content, such as `pad_token`. */
export function specialTokensOf(document: unknown): readonly string[] {
  return Object.entries(Object(document)).flatMap(([key, value]) => {
    if (!/(^|_)(token|special_tokens)$/.test(key)) return [];
    const isList = isRecord(value) && value.content === undefined;
    const tokens = isList ? Object.values(value) : [value].flat();
    return tokens
      .map((token) => (isRecord(token) ? token.content : token))
      .filter((token) => typeof token === 'string');
  });
}

/** Levels of nested lists: alternatives of sequences of ids. */
const MAX_NESTED = 3;

/** Whether a value of a file can be a token id. */
export const isId = (value: unknown): value is number => Number.isInteger(value) && (value as number) >= 0;

/** Numbers that are not token ids, such as -1, or are outside the vocabulary, do not change. */
const renumberOne = (id: unknown, ids: RenumberedIds): unknown => (isId(id) ? (ids.newId(id) ?? id) : id);

function renumberAll(value: unknown, ids: RenumberedIds): unknown {
  return Array.isArray(value) ? value.map((item) => renumberAll(item, ids)) : renumberOne(value, ids);
}

function renumberSize(size: unknown, ids: RenumberedIds): unknown {
  return isId(size) ? ids.countBelow(size) : size;
}

function dropMissing(value: unknown, ids: RenumberedIds): unknown {
  if (!Array.isArray(value)) return value;
  return value.filter((id) => !isId(id) || ids.newId(id) !== undefined).map((id) => renumberOne(id, ids));
}

const isComplete = (sequence: unknown, ids: RenumberedIds): boolean =>
  [sequence].flat(MAX_NESTED).every((id) => !isId(id) || ids.newId(id) !== undefined);

/** Drops sequences with a removed token, which cannot be generated; and an empty list, which transformers refuses. */
function dropSequences(value: unknown, ids: RenumberedIds): unknown {
  if (!Array.isArray(value)) return value;
  const left = value.filter((sequence) => isComplete(sequence, ids)).map((sequence) => renumberAll(sequence, ids));
  return left.length === 0 && value.length > 0 ? undefined : left;
}

/** `[[ids, bias], ...]` */
function dropBiases(value: unknown, ids: RenumberedIds): unknown {
  if (!Array.isArray(value)) return value;
  const left = value
    .filter((pair) => !Array.isArray(pair) || isComplete(pair[0], ids))
    .map((pair) => (Array.isArray(pair) ? [renumberAll(pair[0], ids), ...pair.slice(1)] : pair));
  return left.length === 0 && value.length > 0 ? undefined : left;
}

/** `[[position, id], ...]` */
function renumberForced(value: unknown, ids: RenumberedIds): unknown {
  if (!Array.isArray(value)) return value;
  return value.map((pair) => (Array.isArray(pair) ? [pair[0], renumberOne(pair[1], ids)] : pair));
}

const forcedIds = (value: unknown): unknown[] =>
  Array.isArray(value) ? value.map((pair) => (Array.isArray(pair) ? pair[1] : undefined)) : [];

function renumberKeys(tokens: Json, ids: RenumberedIds): Json {
  const entries = Object.entries(tokens).map(([id, token]) => [ids.newId(Number(id)) ?? id, token] as const);
  return Object.fromEntries(entries);
}
