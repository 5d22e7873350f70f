import type { Tokenizer } from '../calibration/tokenizer.js';
import { errorMessage } from '../error-message.js';
import { OptionError } from '../errors.js';
import { refusal } from '../options/option.js';
import type { VocabularyOptions } from '../options/vocabulary.js';
import { isRecord, parseJson } from '../parse-json.js';
import type { Files } from '../runtime/platform.js';
import type { ModelFolder } from '../storage/model-folder.js';
import { type JsonObject, readJsonFile } from '../storage/read-json.js';
import { readText } from '../storage/read-text.js';
import { listSideFiles } from '../storage/side-files.js';
import type { TokenSelection } from '../vocabulary/choose-tokens.js';
import { ROLES, templatesOf, textsOfTemplate } from '../vocabulary/template-texts.js';
import { idsNamedByDocument, specialTokensOf } from '../vocabulary/token-ids-in-documents.js';
import type { TokenizerFile } from '../vocabulary/tokenizer-file.js';
import { idsNamedByTokenizer } from '../vocabulary/trim-tokenizer.js';
import { isRenumbered } from '../vocabulary/vocabulary-files.js';
import { readTexts } from './read-texts.js';

/** Checks options before a model is opened. @throws OptionError */
export function checkVocabularyOptions({ keepLanguages, vocabularySize, vocabulary, texts }: VocabularyOptions): void {
  if (keepLanguages?.length === 0)
    throw refusal('keepLanguages', 'is an empty list, so only ASCII would remain; name a language, or leave it out');
  if (vocabulary !== undefined) {
    for (const [name, value] of Object.entries({ keepLanguages, vocabularySize }))
      if (value !== undefined)
        throw refusal(name, 'has no effect with vocabulary, which names the tokens themselves; leave one of them out');
    return;
  }
  if (keepLanguages === undefined && vocabularySize === undefined)
    throw refusal(
      'keepLanguages',
      `is missing${texts === undefined ? '' : ', and texts alone do not predict the tokens of other text'}; select tokens by it, by vocabularySize or by vocabulary`,
    );
}

/** Token selection by files or by tokens that were read already. */
export interface TokenSelectionOptions extends VocabularyOptions {
  /** Tokens of a text, treated as those of `texts`. */
  readonly seen?: Int32Array | undefined;
}

interface SelectionSources {
  readonly folder: ModelFolder;
  readonly file: TokenizerFile;
  readonly tokenizer: Tokenizer;
  readonly tokenizerConfig: JsonObject;
  /** Token ids in constants of graphs. */
  readonly constants: readonly number[];
}

/** Reads the token selection: the user's list and texts, and ids in the model's files. @throws OptionError */
export async function readTokenSelection(
  files: Files,
  options: TokenSelectionOptions,
  { folder, file, tokenizer, tokenizerConfig, constants }: SelectionSources,
): Promise<TokenSelection> {
  const { keepLanguages, vocabularySize, vocabulary, texts = [], seen = [] } = options;
  const textCounts = new Map<number, number>();
  const countTokens = (ids: Iterable<number>) => {
    for (const id of ids) textCounts.set(id, (textCounts.get(id) ?? 0) + 1);
  };
  countTokens(seen);
  for (const path of texts) countTokens(tokenizer.encode(await readTexts(files, path)));
  const { included } = await listSideFiles(files, folder, new Set());
  const documents: unknown[] = [...Object.values(folder.documents), tokenizerConfig];
  for (const path of included)
    if (isRenumbered(path, file)) documents.push(await readJsonFile(files, files.resolve(folder.root, path)));
  const named = new Set([...idsNamedByTokenizer(file), ...documents.flatMap(idsNamedByDocument), ...constants]);
  const specialTokens = await readJsonFile(files, files.resolve(folder.root, 'special_tokens_map.json'));
  for (const content of [tokenizerConfig, specialTokens].flatMap(specialTokensOf)) {
    // Transformers gives a special token without an id a new one, behind the last row.
    const id = file.modelIds.get(content);
    if (id !== undefined) named.add(id);
  }
  for (const template of await readTemplates(folder, tokenizerConfig, included))
    for (const text of [...textsOfTemplate(template), ...ROLES])
      for (const before of ['', ...signsBefore(file)]) for (const id of tokenizer.encode(before + text)) named.add(id);
  return {
    languages: keepLanguages,
    size: vocabularySize,
    listed: vocabulary === undefined ? undefined : await readListedIds(files, vocabulary, file),
    textCounts,
    named,
  };
}

/**
 * A sign that words do not join. SentencePiece puts a space in front of a text, but not of a part of a prompt behind other text or a
 * special token, which then has other tokens.
 */
const signsBefore = ({ kind, modelIds }: TokenizerFile): readonly string[] =>
  kind === 'byte-level BPE' ? [] : ['|', ':', '.'].filter((sign) => modelIds.has(sign)).slice(0, 1);

const TEMPLATES = /^(chat_template[\w-]*\.jinja|additional_chat_templates\/[^/]+\.jinja)$/;

/** Chat templates of the tokenizer's configuration and of separate files. */
async function readTemplates(
  folder: ModelFolder,
  tokenizerConfig: JsonObject,
  included: readonly string[],
): Promise<readonly string[]> {
  const { files } = folder.platform;
  const found = [...templatesOf(tokenizerConfig)];
  for (const path of included) {
    if (TEMPLATES.test(path)) found.push(await readText(files, files.resolve(folder.root, path), 'chat template'));
    else if (path === 'chat_template.json')
      found.push(...templatesOf(parseJson(await readText(files, files.resolve(folder.root, path), 'chat template'))));
  }
  return found;
}

/** Ids of the tokens that a user names. @throws OptionError for an unknown token */
async function readListedIds(
  files: Files,
  vocabulary: NonNullable<VocabularyOptions['vocabulary']>,
  { contents, modelIds }: TokenizerFile,
): Promise<readonly number[]> {
  const { place, entries } =
    typeof vocabulary === 'string'
      ? { place: vocabulary, entries: await readEntries(files, vocabulary) }
      : { place: 'vocabulary', entries: vocabulary };
  if (entries.length === 0)
    throw new OptionError(`${place} names no token, so only bytes and special tokens would remain; name some`, {
      option: 'vocabulary',
    });
  const ids = new Map(contents.flatMap((content, id) => (content === undefined ? [] : [[content, id] as const])));
  return entries.map((entry, at) => {
    if (typeof entry === 'number') return entry;
    const id = ids.get(entry) ?? modelIds.get(entry);
    if (id !== undefined) return id;
    const idsRemedy = /^\d+$/.test(entry) ? ', and ids as numbers in a list in a .json file' : '';
    throw new OptionError(
      `${place} names ${JSON.stringify(entry)} (entry ${at + 1}), which is not a token of tokenizer.json; write tokens as in that file, such as ${JSON.stringify(contents.at(-1) ?? '')}${idsRemedy}`,
      { option: 'vocabulary' },
    );
  });
}

async function readEntries(files: Files, path: string): Promise<readonly (string | number)[]> {
  const text = await readText(files, path, 'vocabulary');
  if (!path.endsWith('.json')) return text.split(/\r?\n/).filter((line) => line !== '');
  let parsed: unknown;
  try {
    parsed = parseJson(text);
  } catch (cause) {
    throw new OptionError(`${path} is not JSON: ${errorMessage(cause)}`, { option: 'vocabulary', cause });
  }
  const list = isRecord(parsed) ? parsed.kept : parsed;
  if (Array.isArray(list) && list.every((entry) => typeof entry === 'string' || typeof entry === 'number')) return list;
  throw new OptionError(`${path} contains neither a list of tokens and ids nor a result with "kept"`, {
    option: 'vocabulary',
  });
}
