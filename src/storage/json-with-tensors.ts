import { ModelFormatError, OptionError } from '../errors.js';
import type { ByteSink } from '../onnx/byte-source.js';
import { readSafetensors, type TensorMap, writeSafetensors } from '../onnx/safetensors.js';
import { formatJson } from '../report/format-json.js';
import type { SavedFile, SavedKind } from '../report/saved-file.js';
import { withoutPaths } from '../report/without-paths.js';
import type { Files, Platform } from '../runtime/platform.js';
import { hashFiles } from './hash-files.js';
import { hasSchema, type JsonObject, readJsonFile } from './read-json.js';

/** The two files, absolute. */
export interface PairPaths {
  readonly kind: SavedKind;
  readonly json: string;
  readonly tensors: string;
}

/**
 * Resolves the paths of a JSON file and its tensors.
 * @param path A file ending in `.json`, its tensors next to it under the same name; or a folder with files named after `kind`.
 */
export function resolvePair(files: Files, kind: SavedKind, path: string): PairPaths {
  const stem = path.endsWith('.json') ? files.resolve(path).slice(0, -'.json'.length) : files.resolve(path, kind);
  return { kind, json: `${stem}.json`, tensors: `${stem}.safetensors` };
}

interface PairPathOptions {
  /** Output folder of the run. */
  readonly out?: string | undefined;
  readonly force?: boolean | undefined;
  /** An interrupted run is resumed, which may have written some of it. Default false. */
  readonly resuming?: boolean | undefined;
}

/**
 * Refuses paths that exist, cannot be written, or are in the run's output folder. `force` only replaces files of an earlier
 * run.
 * @throws OptionError
 */
export async function checkPairPaths(
  files: Files,
  { kind, json, tensors }: PairPaths,
  { out, force = false, resuming = false }: PairPathOptions,
): Promise<void> {
  if (out !== undefined && files.relative(files.resolve(out), json) !== undefined)
    throw new OptionError(`${json} is in the output folder ${out}. Choose another place for the ${kind}.`);
  for (const path of [json, tensors]) await files.checkFile(path);
  const exists = (await files.kindOf(json)) !== undefined;
  const isOrphan = !resuming && !exists && (await files.kindOf(tensors)) !== undefined;
  if (isOrphan || (exists && !(await hasSchema(files, json, `fang-prune-${kind}/`))))
    throw new OptionError(
      `${isOrphan ? tensors : json} exists and is not of a ${kind} that fang-prune wrote. Choose another place, or move it away.`,
    );
  if (!force && !resuming && exists)
    throw new OptionError(`${json} exists. Choose another place for the ${kind}, or force the replacement.`);
}

/** Writes both files; the JSON file, which contains the other's hash, appears last. @throws OptionError */
export async function writePair(
  { files, createHash }: Platform,
  place: PairPaths,
  { json, tensors }: SavedPair<object>,
): Promise<void> {
  const hash = createHash();
  const writeTensors = ({ write }: ByteSink) => {
    const hashing = async (bytes: Uint8Array) => {
      hash.update(bytes);
      await write(bytes);
    };
    return writeSafetensors({ write: hashing }, tensors);
  };
  const writeJson = (sink: ByteSink) => {
    const named: Pick<SavedFile, 'tensors'> = {
      tensors: { file: files.split(place.tensors).name, sha256: hash.digest() },
    };
    return sink.write(
      new TextEncoder().encode(formatJson(withoutPaths({ ...json, ...named }, { folders: [files.resolve('.')] }))),
    );
  };
  await files.writeTogether(
    new Map([
      [place.tensors, writeTensors],
      [place.json, writeJson],
    ]),
  );
}

/** Key of the run that wrote both files; undefined if they are not complete. Tensors are checked by size, since hashing takes as long as merging. */
export async function runOfPair(files: Files, { json, tensors }: PairPaths): Promise<string | undefined> {
  const source = await files.open(tensors).catch(() => undefined);
  if (source === undefined) return undefined;
  const isWhole = await readSafetensors(source)
    .then(
      () => true,
      () => false,
    )
    .finally(source.close);
  if (!isWhole) return undefined;
  const { run } = Object(await readJsonFile(files, json).catch(() => undefined)) as { readonly run?: unknown };
  return typeof run === 'string' ? run : undefined;
}

/** Contents of both files. */
export interface SavedPair<T> {
  readonly json: T;
  readonly tensors: TensorMap;
}

/** Both files, opened; tensors can be read until `close`. */
export interface OpenPair<T> extends SavedPair<T> {
  close(): Promise<void>;
}

interface OpenOptions<T> {
  /** Checks the JSON object, without tensors. @throws ModelFormatError */
  readonly check: (json: JsonObject, file: string) => T;
  readonly signal?: AbortSignal | undefined;
}

/**
 * Opens both files.
 * @throws OptionError when there are none; ModelFormatError naming the file that is damaged.
 */
export async function openPair<T extends SavedFile>(
  platform: Platform,
  { kind, ...place }: PairPaths,
  { check, signal }: OpenOptions<T>,
): Promise<OpenPair<T>> {
  const found = await readJsonFile(platform.files, place.json);
  if (found === undefined) throw new OptionError(`There is no file ${place.json}, where the ${kind} should be.`);
  const json = check(found, place.json);
  const source = await platform.files.open(place.tensors);
  if (source === undefined)
    throw new ModelFormatError(`${place.tensors} is missing; it belongs to ${place.json}. Get the ${kind} again.`);
  try {
    const tensors = await readSafetensors(source);
    const sha256 = await hashFiles(platform, [place.tensors], signal);
    if (sha256 === json.tensors.sha256) return { json, tensors, close: source.close };
    throw new ModelFormatError(
      `${place.tensors} has the SHA-256 ${sha256}, but ${place.json} belongs to ${json.tensors.sha256}. Get the ${kind} again.`,
    );
  } catch (error) {
    await source.close();
    throw error;
  }
}
