import type { OnnxModel } from '../onnx/onnx-model.js';
import { type SavedModel, type SaveOptions, saveModel } from '../onnx/save-model.js';
import type { Files } from '../platform/platform.js';
import { type ModelFolder, modelPaths } from './model-folder.js';
import { openFolder } from './open-folder.js';
import { readPieces } from './read-bytes.js';
import type { JsonObject } from './read-json.js';
import { listSideFiles } from './side-files.js';
import { WINDOWS_FILE } from './windows-file.js';

export interface FillOptions extends SaveOptions {
  /** Where the model comes from. */
  readonly source: ModelFolder;
  /** JSON files to write instead of the source's, by path relative to the folder, such as `config.json`. */
  readonly documents?: Readonly<Record<string, JsonObject>>;
}

/** A model folder that was filled. */
export interface FilledFolder extends SavedModel {
  /** Files copied from the source. */
  readonly copied: readonly string[];
  /** Files of the source that hold other variants of the model and were not copied. */
  readonly leftOut: readonly string[];
}

/**
 * Writes a model into a folder with everything that lay beside the original: tokenizer, templates, licence. A lone `.onnx`
 * file without config or tokenizer is written alone.
 * @param folder absolute path
 * @throws OptionError when something cannot be written; ModelFormatError when a weight cannot be read.
 */
export async function fillModelFolder(
  folder: string,
  model: OnnxModel,
  { source, documents = {}, ...save }: FillOptions,
): Promise<FilledFolder> {
  const { files } = source.platform;
  const hasSideFiles = Object.keys(source.documents).length > 0;
  const own = modelPaths(source, model).map((path) => files.relative(source.root, path)!);
  const { kept, leftOut } = hasSideFiles
    ? await listSideFiles(files, source.root, {
        modelFile: source.modelFile,
        replaced: new Set([...own, ...Object.keys(documents), WINDOWS_FILE]),
      })
    : { kept: [], leftOut: [] };
  const saved = await saveModel(model, openFolder(files, folder), source.modelFile, save);
  for (const path of kept) {
    save.signal?.throwIfAborted();
    await copyFile(files, files.resolve(source.root, path), files.resolve(folder, path));
  }
  for (const [path, document] of Object.entries(documents)) {
    await writeText(files, files.resolve(folder, path), `${JSON.stringify(document, null, 2)}\n`);
  }
  save.signal?.throwIfAborted();
  return { ...saved, copied: kept, leftOut };
}

async function copyFile(files: Files, from: string, to: string): Promise<void> {
  const sink = await files.create(to);
  try {
    for await (const piece of readPieces(files, from)) await sink.write(piece);
  } finally {
    await sink.close();
  }
}

/** Writes a text file, UTF-8. @throws OptionError */
export async function writeText(files: Files, path: string, text: string): Promise<void> {
  const sink = await files.create(path);
  await sink.write(new TextEncoder().encode(text)).finally(() => sink.close());
}
