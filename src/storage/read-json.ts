import { errorMessage } from '../error-message.js';
import { ModelFormatError } from '../errors.js';
import { isRecord, parseJson } from '../parse-json.js';
import type { Files } from '../runtime/platform.js';
import { decodeText } from './read-bytes.js';

/** The tokenizer.json of the largest vocabularies has about 40 MB. */
const MAX_JSON_BYTES = 256 * 2 ** 20;

/** Reports and measurements have at most a few megabytes. Parsed JSON may take twenty times as much memory. */
export const MAX_REPORT_BYTES = 32 * 2 ** 20;

/** A parsed JSON object. */
export type JsonObject = Readonly<Record<string, unknown>>;

/**
 * Reads a JSON file with an object.
 * @param mostBytes largest size
 * @returns undefined when there is no such file.
 * @throws ModelFormatError when it is too large, or not a JSON object.
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
    if (size > mostBytes) throw new Error(`it has ${size} bytes; at most ${mostBytes} are read`);
    const bytes = await source.read(0, size).finally(() => source.close());
    const parsed: unknown = parseJson(decodeText(bytes).replace(/^\uFEFF/, ''));
    if (!isRecord(parsed)) throw new Error('it is not an object');
    return parsed;
  } catch (cause) {
    throw new ModelFormatError(`${path} is not a usable JSON file: ${errorMessage(cause)}. Get the file again.`, {
      cause,
    });
  }
}

/** Whether a file of at most `mostBytes` is JSON of a schema, in any version. */
export async function hasSchema(files: Files, path: string, start: string, mostBytes?: number): Promise<boolean> {
  const found = await readJsonFile(files, path, mostBytes).catch(() => undefined);
  return typeof found?.schema === 'string' && found.schema.startsWith(start);
}
