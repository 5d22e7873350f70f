import { stat } from 'node:fs/promises';
import { basename, dirname, join, relative, resolve } from 'node:path';
import { ModelFormatError, OptionError } from '../errors.js';
import { loadModel } from '../onnx/load-model.js';
import type { OnnxModel } from '../onnx/onnx-model.js';
import { checkDecoderOnly, chooseModelFile, isFile } from './choose-model-file.js';
import { openFileFolder } from './file-folder.js';
import { isMissing, reason } from './file-source.js';
import { type JsonObject, readJsonFile } from './read-json.js';

/** JSON files beside a model that say how to run it. */
export const MODEL_DOCUMENTS = ['config.json', 'generation_config.json', 'genai_config.json'] as const;

export type ModelDocument = (typeof MODEL_DOCUMENTS)[number];

/** The tokenizer beside a model. */
export const TOKENIZER = 'tokenizer.json';

/** A model on disk, with the files that belong to it. */
export interface ModelFolder {
  /** Absolute path of the folder with config and tokenizer. */
  readonly root: string;
  /** The model file relative to `root`, with `/`: `onnx/model.onnx` (transformers.js) or `model.onnx` (genai). */
  readonly modelFile: string;
  /** Parsed JSON files, as far as they exist. */
  readonly documents: Readonly<Partial<Record<ModelDocument, JsonObject>>>;
  /** Loads the model; its weights can be read until `close`. @throws ModelFormatError */
  load(): Promise<OnnxModel>;
  /** Closes the files that are open. */
  close(): Promise<void>;
}

export interface OpenModelOptions {
  /** Which ONNX file of the folder, relative to it. Default: `onnx/model.onnx`, `model.onnx`, or the only decoder, fp32 before fp16. */
  readonly file?: string | undefined;
}

/**
 * Finds a model and what belongs to it.
 * @param path a folder in transformers.js or onnxruntime-genai layout, or an `.onnx` file
 * @throws OptionError saying what was looked for when nothing is found; UnsupportedModelError for an encoder-decoder, or where
 * all there are hold quantised weights.
 * @throws ModelFormatError when a JSON file is damaged.
 */
export async function openModelFolder(path: string, { file }: OpenModelOptions = {}): Promise<ModelFolder> {
  if (typeof path !== 'string') throw new OptionError(`model is ${String(path)}; expected a folder or an .onnx file`);
  const { root, modelFile: given } = await locate(resolve(path), file);
  const entries = await Promise.all(
    MODEL_DOCUMENTS.map(async (name) => [name, await readJsonFile(join(root, name))] as const),
  );
  // Found to be whole before the work begins, but not kept: its hundred thousand objects would be in the collector's way.
  await readJsonFile(join(root, TOKENIZER));
  const documents: ModelFolder['documents'] = Object.fromEntries(
    entries.filter(([, document]) => document !== undefined),
  );
  checkDecoderOnly(root, documents['config.json'], documents['genai_config.json']);
  const modelFile = given ?? (await chooseModelFile(root, file));
  const modelPath = join(root, modelFile);
  const folder = openFileFolder(dirname(modelPath));
  return {
    root,
    modelFile,
    documents,
    async load() {
      const source = await folder.open(basename(modelPath));
      if (source === undefined) throw new ModelFormatError(`${modelPath} is gone.`);
      return loadModel(source, folder);
    },
    close: () => folder.close(),
  };
}

/** The folder with the documents, and the model file in it where the user gave its path. */
interface Location {
  readonly root: string;
  readonly modelFile?: string;
}

async function locate(path: string, file: string | undefined): Promise<Location> {
  const stats = await stat(path).catch((cause) => {
    if (isMissing(cause)) throw new OptionError(`There is no model at ${path}: no such file or folder.`);
    throw new OptionError(`Cannot look at ${path}: ${reason(cause)}.`, { cause });
  });
  return stats.isDirectory() ? { root: path } : locateFile(path, file);
}

/** The documents of `onnx/model.onnx` lie one folder up. */
async function locateFile(path: string, file: string | undefined): Promise<Location> {
  if (file !== undefined) throw new OptionError(`${path} is a file, so "${file}" cannot be looked for in it.`);
  if (!path.endsWith('.onnx'))
    throw new OptionError(`${path} is no .onnx file. Give a model's folder or its .onnx file.`);
  const folder = dirname(path);
  const isNested = basename(folder) === 'onnx' && (await isFile(join(dirname(folder), 'config.json')));
  const root = isNested ? dirname(folder) : folder;
  return { root, modelFile: toSlashes(relative(root, path)) };
}

function toSlashes(path: string): string {
  return path.replaceAll('\\', '/');
}

/** Absolute paths of the model file and its external data. */
export function modelPaths({ root, modelFile }: ModelFolder, { storage }: OnnxModel): readonly string[] {
  const path = join(root, modelFile);
  return [path, ...(storage?.kind === 'external' ? storage.files.map((file) => join(dirname(path), file)) : [])];
}

/** Longest window the model was made for, under the names that families give it. */
export function contextLength({ documents }: ModelFolder): number | undefined {
  const config = documents['config.json'] ?? {};
  const named = ['max_position_embeddings', 'n_positions', 'max_sequence_length', 'n_ctx', 'seq_length'];
  const genai = Object(documents['genai_config.json']?.model).context_length as unknown;
  return [...named.map((key) => config[key]), genai].find((value) => typeof value === 'number');
}

/** Channels of a head, for caches whose size the graph leaves open. */
export function headSize({ documents }: ModelFolder): number | undefined {
  const genai = Object(Object(documents['genai_config.json']?.model).decoder).head_size as unknown;
  return [documents['config.json']?.head_dim, genai].find((value) => typeof value === 'number');
}
