import type { RenumberedIds } from './renumbered-ids.js';
import { renumberDocument } from './token-ids-in-documents.js';
import type { TokenizerFile } from './tokenizer-file.js';
import { formatMerges } from './trim-tokenizer.js';

type Json = Readonly<Record<string, unknown>>;

/** Treatment of a file with tokens or ids next to tokenizer.json. */
export type VocabularyFile =
  /** Rewritten. */
  | { readonly kind: 'json'; rewrite(document: Json, trimmed: TrimmedFiles): Json }
  | { readonly kind: 'text'; rewrite(trimmed: TrimmedFiles): string }
  /** Not copied: it has old ids, and runtimes of ONNX models do not need it next to tokenizer.json. */
  | { readonly kind: 'stale' };

/** Sources that files are rewritten from. */
export interface TrimmedFiles {
  readonly ids: RenumberedIds;
  /** The original tokenizer. */
  readonly file: TokenizerFile;
  /** The trimmed tokenizer.json. */
  readonly trimmed: Json;
}

const RENUMBERED: VocabularyFile = { kind: 'json', rewrite: (document, { ids }) => renumberDocument(document, ids) };
const STALE: VocabularyFile = { kind: 'stale' };

/** Files of the model's folder by name; other files have no ids. */
const FILES: readonly { readonly pattern: RegExp; fileOf(file: TokenizerFile): VocabularyFile }[] = [
  {
    pattern: /^(tokenizer_config|special_tokens_map|((image_|video_|audio_)?(pre)?processor)(_config)?)\.json$/,
    fileOf: () => RENUMBERED,
  },
  {
    pattern: /^vocab\.json$/,
    fileOf: ({ kind }) =>
      kind.includes('BPE') ? { kind: 'json', rewrite: (_, { trimmed }) => vocabOf(trimmed) } : STALE,
  },
  {
    pattern: /^merges\.txt$/,
    fileOf: ({ kind }) =>
      kind.includes('BPE') ? { kind: 'text', rewrite: ({ trimmed }) => formatMerges(trimmed) } : STALE,
  },
  {
    pattern: /^vocab\.txt$/,
    fileOf: ({ kind }) =>
      kind === 'WordPiece' ? { kind: 'text', rewrite: ({ trimmed }) => formatLines(trimmed) } : STALE,
  },
  {
    pattern: /^added_tokens\.json$/,
    fileOf: () => ({ kind: 'json', rewrite: (document, { ids }) => renumberValues(document, ids) }),
  },
  {
    pattern:
      /^((tokenizer|sentencepiece|sentencepiece\.bpe|spiece|spm|tiktoken)\.model|tokenizer\.model\.v\S*|\S*\.tiktoken|(tekken|unigram|encoder)\.json|vocab\.bpe)$/,
    fileOf: () => STALE,
  },
];

const CONFIGURATION = /^(config|generation_config|genai_config)\.json$/;

/** Treatment of a file of a model's folder; undefined for one without tokens and ids. */
export function vocabularyFileOf(path: string, file: TokenizerFile): VocabularyFile | undefined {
  const inside = path.startsWith('onnx/') ? path.slice('onnx/'.length) : path;
  if (CONFIGURATION.test(inside)) return RENUMBERED;
  const row = FILES.find(({ pattern }) => pattern.test(inside));
  // Runtimes read the files next to the configuration, not those in `onnx`.
  if (row === undefined) return inside !== path && /^tokenizer\.json$/.test(inside) ? STALE : undefined;
  return inside === path ? row.fileOf(file) : STALE;
}

/** Whether a file is configuration with token ids. */
export const isRenumbered = (path: string, file: TokenizerFile): boolean => vocabularyFileOf(path, file) === RENUMBERED;

const vocabOf = (trimmed: Json): Json => (trimmed.model as Json).vocab as Json;

const formatLines = (trimmed: Json): string =>
  `${Object.entries(vocabOf(trimmed) as Record<string, number>)
    .sort(([, a], [, b]) => a - b)
    .map(([token]) => token)
    .join('\n')}\n`;

function renumberValues(tokens: Json, ids: RenumberedIds): Json {
  const entries = Object.entries(tokens).map(
    ([token, id]) => [token, typeof id === 'number' ? ids.newId(id) : id] as const,
  );
  return Object.fromEntries(entries.filter(([, id]) => id !== undefined));
}
