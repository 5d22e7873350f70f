import { errorMessage } from '../error-message.js';
import { ModelFormatError } from '../errors.js';
import { isRecord, parseJson } from '../parse-json.js';
import type { Files } from '../runtime/platform.js';
import { decodeText } from './read-bytes.js';

/** The largest vocabularies make a tokenizer.json of some 40 MB. */
const MAX_JSON_BYTES = 256 * 2 ** 20;

/** Reports and measurements have a few megabytes at most. What is parsed may take twenty times as much memory. */
export const MAX_REPORT_BYTES = 32 * 2 ** 20;

/** A JSON object as it was parsed. */
export type JsonObject = Readonly<Record<string, unknown>>;

/**
 * Reads a JSON file that holds an object.
 * @param mostBytes a larger one is not read
 * @returns undefined when there is no such file.
 * @throws ModelFormatError when it is too large, no JSON, or no object.
 */
export async function readJsonFile(
  files: Files,
  path: string,
  mostBytes = MAX_JSON_BYTES,
): Promise<JsonObject | undefined> {
  try {
    const source = await files.open(path);
    if (source === undefined) return undefined;
    const { byteLength: size } = source;
    if (size > mostBytes) throw new Error(`it has ${size} bytes, more than the ${mostBytes} that are read`);
    const bytes = await source.read(0, size).finally(() => source.close());
    const parsed: unknown = parseJson(decodeText(bytes).replace(/^\uFEFF/, ''));
    if (!isRecord(parsed)) throw new Error('it holds no object');
    return parsed;
  } catch (cause) {
    throw new ModelFormatError(`${path} is not a usable JSON file: ${errorMessage(cause)}. Get the file again.`, {
      cause,
    });
  }
}

/** Whether a file is JSON of a schema, whatever its version; a larger one than `mostBytes` is not. */
export async function hasSchema(files: Files, path: string, start: string, mostBytes?: number): Promise<boolean> {
  const found = await readJsonFile(files, path, mostBytes).catch(() => undefined);
  return typeof found?.schema === 'string' && found.schema.startsWith(start);
}
