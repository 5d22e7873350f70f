import { copyFile, mkdir, writeFile } from 'node:fs/promises';
import { dirname, join, posix } from 'node:path';
import type { OnnxModel } from '../onnx/onnx-model.js';
import { type SavedModel, type SaveOptions, saveModel } from '../onnx/save-model.js';
import { buildFolder } from './atomic-folder.js';
import { checkOutput } from './check-output.js';
import { createFileSink, writing } from './file-folder.js';
import type { ModelFolder } from './model-folder.js';
import type { JsonObject } from './read-json.js';
import { listSideFiles } from './side-files.js';
import { WINDOWS_FILE } from './windows-file.js';

export interface WriteModelOptions extends SaveOptions {
  /** Folder to be made. */
  readonly output: string;
  /** Replace the folder if it exists. Default false. */
  readonly force?: boolean | undefined;
  /** JSON files to write instead of the source's, by path relative to the folder, such as `config.json`. */
  readonly documents?: Readonly<Record<string, JsonObject>>;
  /** Adds to the folder when all else is in it, before it appears under its name. */
  readonly complete?: ((folder: string, saved: SavedModel) => Promise<void>) | undefined;
}

/** A model folder that was written. */
export interface WrittenModel extends SavedModel {
  /** Absolute path of the folder. */
  readonly folder: string;
  /** Files copied from the source. */
  readonly copied: readonly string[];
  /** Files of the source that hold other variants of the model and were not copied. */
  readonly leftOut: readonly string[];
}

/**
 * Writes a model with everything that lay beside the original: tokenizer, templates, licence. The folder appears only
 * when it is complete. A lone `.onnx` file without config or tokenizer is written alone.
 * @throws OptionError when the output cannot be made; ModelFormatError when a weight cannot be read.
 */
export async function writeModelFolder(
  model: OnnxModel,
  source: ModelFolder,
  { output, force, documents = {}, complete, ...save }: WriteModelOptions,
): Promise<WrittenModel> {
  const folder = await checkOutput({ output, source: source.root, force });
  const hasSideFiles = Object.keys(source.documents).length > 0;
  const sideFiles = hasSideFiles
    ? await listSideFiles(source.root, {
        modelFile: source.modelFile,
        replaced: new Set([...modelFiles(model, source), ...Object.keys(documents), WINDOWS_FILE]),
      })
    : { kept: [], leftOut: [] };
  const build = async (partial: string) => {
    const saved = await saveModel(model, createFileSink(partial), source.modelFile, save);
    for (const path of sideFiles.kept) {
      save.signal?.throwIfAborted();
      await put(join(partial, path), (target) => copyFile(join(source.root, path), target));
    }
    for (const [path, document] of Object.entries(documents)) {
      await put(join(partial, path), (target) => writeFile(target, `${JSON.stringify(document, null, 2)}\n`));
    }
    save.signal?.throwIfAborted();
    await complete?.(partial, saved);
    return { ...saved, folder, copied: sideFiles.kept, leftOut: sideFiles.leftOut };
  };
  return buildFolder(folder, build, { force });
}

/** The model file and its external data, relative to the folder. */
function modelFiles({ storage }: OnnxModel, { modelFile }: ModelFolder): readonly string[] {
  const external = storage?.kind === 'external' ? storage.files : [];
  return [modelFile, ...external.map((file) => posix.join(posix.dirname(modelFile), file))];
}

async function put(target: string, write: (target: string) => Promise<void>): Promise<void> {
  await writing(target, async () => {
    await mkdir(dirname(target), { recursive: true });
    await write(target);
  });
}
