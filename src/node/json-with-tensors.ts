import { createHash, randomBytes } from 'node:crypto';
import { mkdir, rename, rm, writeFile } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { ModelFormatError, OptionError } from '../errors.js';
import type { ByteSink } from '../onnx/byte-source.js';
import { readSafetensors, type TensorMap, writeSafetensors } from '../onnx/safetensors.js';
import { formatJson } from '../report/format-json.js';
import type { SavedFile, SavedKind } from '../report/saved-file.js';
import { contains, exists } from './check-output.js';
import { createFileSink, writing } from './file-folder.js';
import { openFileSource } from './file-source.js';
import { hashFiles } from './hash-files.js';
import { type JsonObject, readJsonFile } from './read-json.js';

/** The two files, absolute. */
export interface PairPlace {
  readonly kind: SavedKind;
  readonly json: string;
  readonly tensors: string;
}

/**
 * Says where a JSON file and its tensors lie.
 * @param path A file ending in `.json`, its tensors beside it under the same name; or a folder with a file called after `kind`.
 * @throws OptionError
 */
export function resolvePair(kind: SavedKind, path: string): PairPlace {
  if (typeof path !== 'string' || path.trim() === '')
    throw new OptionError(`${kind} is ${JSON.stringify(path)}; expected a folder or a path ending in .json`);
  const stem = path.endsWith('.json') ? resolve(path).slice(0, -'.json'.length) : join(resolve(path), kind);
  return { kind, json: `${stem}.json`, tensors: `${stem}.safetensors` };
}

/** Refuses a place that is taken, or lies in the folder that a run is to make. @throws OptionError */
export async function checkPairPlace(
  { kind, json }: PairPlace,
  { out, force = false }: { readonly out?: string | undefined; readonly force?: boolean | undefined },
): Promise<void> {
  if (out !== undefined && contains(resolve(out), json))
    throw new OptionError(`${json} lies in the output folder ${out}. Choose another place for the ${kind}.`);
  if (!force && (await exists(json)))
    throw new OptionError(`${json} exists. Choose another place for the ${kind}, or force the replacement.`);
}

/** Writes both files; the JSON file, which names the hash of the other, appears last. @throws OptionError */
export async function writePair(place: PairPlace, json: object, tensors: TensorMap): Promise<void> {
  const folder = dirname(place.json);
  const suffix = `.partial-${randomBytes(4).toString('hex')}`;
  const partials = { json: place.json + suffix, tensors: place.tensors + suffix };
  await writing(folder, () => mkdir(folder, { recursive: true }));
  try {
    const hash = createHash('sha256');
    const file = await createFileSink(folder).create(basename(partials.tensors));
    const sink: ByteSink = {
      async write(bytes) {
        hash.update(bytes);
        await file.write(bytes);
      },
    };
    await writeSafetensors(sink, tensors).finally(() => file.close());
    const named: Pick<SavedFile, 'tensors'> = {
      tensors: { file: basename(place.tensors), sha256: hash.digest('hex') },
    };
    await writing(place.json, async () => {
      await writeFile(partials.json, formatJson({ ...json, ...named }));
      await rename(partials.tensors, place.tensors);
      await rename(partials.json, place.json);
    });
  } finally {
    await Promise.all(Object.values(partials).map((path) => rm(path, { force: true })));
  }
}

/** Both files, opened. */
export interface OpenPair<T> {
  readonly json: T;
  readonly tensors: TensorMap;
}

interface PairUse<T, Result> {
  /** Checks the JSON object as far as it goes without tensors. @throws ModelFormatError */
  readonly check: (json: JsonObject, file: string) => T;
  readonly use: (opened: OpenPair<T>) => Promise<Result>;
  readonly signal?: AbortSignal | undefined;
}

/**
 * Opens both files while `use` works with them.
 * @throws OptionError when there are none; ModelFormatError naming the file that is damaged.
 */
export async function withPair<T extends SavedFile, Result>(
  place: PairPlace,
  { check, use, signal }: PairUse<T, Result>,
): Promise<Result> {
  const { kind } = place;
  const found = await readJsonFile(place.json);
  if (found === undefined) throw new OptionError(`There is no file ${place.json}, where the ${kind} should be.`);
  const json = check(found, place.json);
  const source = await openFileSource(place.tensors);
  if (source === undefined)
    throw new ModelFormatError(`${place.tensors} is missing; it belongs to ${place.json}. Get the ${kind} again.`);
  try {
    const tensors = await readSafetensors(source);
    const sha256 = await hashFiles([place.tensors], signal);
    if (sha256 !== json.tensors.sha256) {
      throw new ModelFormatError(
        `${place.tensors} has the SHA-256 ${sha256}, but ${place.json} belongs to ${json.tensors.sha256}. Get the ${kind} again.`,
      );
    }
    return await use({ json, tensors });
  } finally {
    await source.close();
  }
}
