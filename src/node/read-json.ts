import { stat } from 'node:fs/promises';
import { ModelFormatError } from '../errors.js';
import { parseJson } from '../parse-json.js';
import { isMissing, readRegularFile, reason } from './file-source.js';

/** The largest vocabularies make a tokenizer.json of some 40 MB. */
const MAX_JSON_BYTES = 256 * 2 ** 20;

/** A JSON object as it was parsed. */
export type JsonObject = Readonly<Record<string, unknown>>;

/**
 * Reads a JSON file that holds an object.
 * @returns undefined when there is no such file.
 * @throws ModelFormatError when it is too large, no JSON, or no object.
 */
export async function readJsonFile(path: string): Promise<JsonObject | undefined> {
  try {
    const { size } = await stat(path);
    if (size > MAX_JSON_BYTES) throw new Error(`it has ${size} bytes, more than the ${MAX_JSON_BYTES} that are read`);
    const parsed: unknown = parseJson((await readRegularFile(path)).toString('utf8'));
    if (typeof parsed !== 'object' || parsed === null || Array.isArray(parsed)) throw new Error('it holds no object');
    return parsed as JsonObject;
  } catch (cause) {
    if (isMissing(cause)) return undefined;
    throw new ModelFormatError(`${path} is no usable JSON file: ${reason(cause)}. Get the file again.`, { cause });
  }
}
