import { withoutSpecialTokens } from '../calibration/leading-tokens.js';
import { createTokenizer, type Tokenizer } from '../calibration/tokenizer.js';
import { OptionError } from '../errors.js';
import { type ModelFolder, TOKENIZER } from './model-folder.js';
import { readJsonFile } from './read-json.js';

/** The model's tokenizer; `undefined` when there is none. @throws ModelFormatError when its files are damaged. */
export async function findTokenizer({
  platform: { files, limitTime },
  root,
  bos,
}: ModelFolder): Promise<Tokenizer | undefined> {
  const read = (name: string) => readJsonFile(files, files.resolve(root, name));
  const tokenizer = await read(TOKENIZER);
  if (tokenizer === undefined) return undefined;
  const created = createTokenizer(tokenizer, (await read('tokenizer_config.json')) ?? {}, limitTime);
  return bos ? created : withoutSpecialTokens(created);
}

/** The model's tokenizer. @throws OptionError when there is none. */
export async function requireTokenizer(folder: ModelFolder, purpose: string): Promise<Tokenizer> {
  const tokenizer = await findTokenizer(folder);
  if (tokenizer === undefined) {
    throw new OptionError(
      `${folder.root} has no tokenizer.json, which ${purpose} needs; put the model's tokenizer next to it`,
    );
  }
  return tokenizer;
}
