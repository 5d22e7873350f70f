import { errorMessage } from '../error-message.js';
import { HubError, ModelFormatError, OptionError, UnsupportedModelError } from '../errors.js';
import type { CacheSizes } from '../evaluation/model-interface.js';
import { joinEmbedding } from '../onnx/join-embedding.js';
import { loadModel } from '../onnx/load-model.js';
import { splitMerged } from '../onnx/merged-decoder.js';
import { findEmbeddingInput } from '../onnx/model-inputs.js';
import type { ModelStorage, OnnxModel } from '../onnx/onnx-model.js';
import { shareWeights } from '../onnx/share-weights.js';
import { parseModelId } from '../options/model-id.js';
import { refusal } from '../options/option.js';
import { checkControl } from '../options/run.js';
import type { ReadingOptions } from '../options/texts.js';
import type { JobControl } from '../progress.js';
import { dequantiseGraph } from '../quantisation/dequantise-graph.js';
import { findTextConfig } from '../removal/text-config.js';
import type { HubOrigin } from '../report/report-schema.js';
import type { EngineChoice, Files, Platform } from '../runtime/platform.js';
import { checkDecoderOnly, chooseModelFile, listingOf } from './choose-model-file.js';
import { findEmbeddings } from './find-embeddings.js';
import { fetchHubModel } from './hub-model.js';
import { type OpenFolder, openFolder } from './open-folder.js';
import { type JsonObject, readJsonFile } from './read-json.js';

/** JSON files next to a model that say how to run it. */
export const MODEL_DOCUMENTS = ['config.json', 'generation_config.json', 'genai_config.json'] as const;

export type ModelDocument = (typeof MODEL_DOCUMENTS)[number];

/** The tokenizer next to a model. */
export const TOKENIZER = 'tokenizer.json';

/** JSON files of the tokenizer, which results get as they are. */
const OF_TOKENIZER = [
  TOKENIZER,
  'tokenizer_config.json',
  'special_tokens_map.json',
  'added_tokens.json',
  'chat_template.json',
] as const;

/** A model where it lies, with the files that belong to it. */
export interface ModelFolder {
  /** Platform that it is read through. */
  readonly platform: Platform;
  /** Absolute path of the folder with config and tokenizer. */
  readonly root: string;
  /** The model file relative to `root`, with `/`: `onnx/model.onnx` (transformers.js) or `model.onnx` (genai). */
  readonly modelFile: string;
  /** Parsed JSON files, as far as they exist. */
  readonly documents: Readonly<Partial<Record<ModelDocument, JsonObject>>>;
  /** Absolute path of the embedding model, where there is one. */
  readonly embeddings: string | undefined;
  /** Whether texts begin with what the tokenizer's post-processor puts there. */
  readonly bos: boolean;
  /** Where it was downloaded from; undefined for what lay there. */
  readonly hub: HubOrigin | undefined;
  /** Present where `load` gives other models than the files hold, so that no runtime can open those in their place. */
  readonly changed?: ChangedModels | undefined;
  /**
   * Loads the model; its weights can be read until `close`. A decoder that reads embeddings has its embedding model in front.
   * @throws ModelFormatError; UnsupportedModelError when it reads embeddings and no embedding model is known.
   */
  load(): Promise<OnnxModel>;
  /** Loads the embedding model. @throws ModelFormatError; UnsupportedModelError when none is known. */
  loadEmbeddings(): Promise<OnnxModel>;
  /** @throws ModelFormatError when a file of the model is not as it was when it was loaded. */
  checkUnchanged(): Promise<void>;
  /** Closes the files that are open. */
  close(): Promise<void>;
}

/** Models that are read otherwise than their files have them. */
export interface ChangedModels {
  /** Models of other parts than the decoder, by path relative to the folder, for saving. */
  readonly parts: ReadonlyMap<string, OnnxModel>;
  /** Changes a model that was read from an absolute path. */
  change(model: OnnxModel, path: string): Promise<OnnxModel>;
}

/** How a model is found, besides its name. */
export interface SourceOptions {
  /**
   * Embedding model of a decoder that reads `inputs_embeds` in place of token ids: an `.onnx` file. Decoders that read ids need
   * none. Default: the one in the model's folder, as transformers.js (`embed_tokens.onnx`) and onnxruntime-genai
   * (`genai_config.json`) name it.
   */
  readonly embeddings?: string | undefined;
  /**
   * Take models of the Hugging Face Hub only from the cache, without network. Default: what `HF_HUB_OFFLINE` says, else false.
   */
  readonly offline?: boolean | undefined;
}

/** Options of every call about the model that it runs. */
export interface ModelRequest extends JobControl, SourceOptions, EngineChoice {
  /** A folder in transformers.js or onnxruntime-genai layout, an `.onnx` file, or a model of the Hugging Face Hub, `org/name`. */
  readonly model: string;
}

export interface OpenModelOptions extends SourceOptions, ReadingOptions, JobControl {
  /**
   * Which ONNX file of the folder, relative to it. Default: `onnx/model.onnx`, `model.onnx`, the decoder that
   * `genai_config.json` names, or the only decoder, fp32 before fp16.
   */
  readonly file?: string | undefined;
}

/**
 * Finds a model and what belongs to it; one of the Hub is downloaded first, as far as the cache lacks it.
 * @param path a folder in transformers.js or onnxruntime-genai layout, an `.onnx` file, or, where there is neither, a model of the
 * Hub: `org/name`, `org/name@revision`, `org/name:dtype`
 * @throws OptionError saying what was looked for when nothing is found; UnsupportedModelError for an encoder-decoder, or a model
 * that was never exported to ONNX.
 * @throws ModelFormatError when a JSON file is damaged, or a download is not what its hash says; HubError.
 */
export async function openModelFolder(
  platform: Platform,
  path: string,
  { file, embeddings: given, bos = true, ...finding }: OpenModelOptions = {},
): Promise<ModelFolder> {
  if (typeof path !== 'string') throw refusal('model', `is ${String(path)}; expected a folder or an .onnx file`);
  checkControl(finding);
  return openLocated(platform, await locate(platform, path, { file, ...finding }), { file, embeddings: given, bos });
}

/** How a model's files are read. */
interface ReadingPlace extends Pick<OpenModelOptions, 'file' | 'embeddings' | 'bos'> {
  readonly changed?: ChangedModels | undefined;
}

/** Opens a model whose path is known. */
export async function openLocated(
  platform: Platform,
  { root, modelFile: named, origin: hub }: Location,
  { file, embeddings: given, bos = true, changed }: ReadingPlace = {},
): Promise<ModelFolder> {
  const { files } = platform;
  const entries = await Promise.all(
    MODEL_DOCUMENTS.map(async (name) => [name, await readJsonFile(files, files.resolve(root, name))] as const),
  );
  // Found to be whole before the work begins, but not kept: its hundred thousand objects would be in the collector's way.
  for (const name of OF_TOKENIZER) await readJsonFile(files, files.resolve(root, name));
  const documents: ModelFolder['documents'] = Object.fromEntries(
    entries.filter(([, document]) => document !== undefined),
  );
  const genai = documents['genai_config.json'];
  checkDecoderOnly(root, documents['config.json'], genai);
  const modelFile = named ?? (await chooseModelFile(listingOf(files, root), { file, genai }));
  const target = files.resolve(root, modelFile);
  const embeddings =
    given === undefined
      ? await findEmbeddings(files, { root, modelFile, genai })
      : await locateEmbeddings(files, given);
  const opened: OpenFolder[] = [];
  const loadFile = async (path: string) => {
    const place = files.split(path);
    const folder = openFolder(files, place.folder);
    opened.push(folder);
    const source = await folder.open(place.name);
    if (source === undefined) throw new ModelFormatError(`${path} is gone.`);
    const read = await loadModel(source, folder);
    const model = changed === undefined ? read : await changed.change(read, path);
    return dequantiseGraph(await shareWeights(splitMerged(model)));
  };
  const loadEmbeddings = async () => {
    if (embeddings !== undefined) return loadFile(embeddings);
    throw new UnsupportedModelError(
      `${target} reads inputs_embeds in place of input_ids, and there is no embedding model next to it (embed_tokens.onnx, ` +
        'or embedding.onnx); name the ONNX file that turns token ids into embeddings by embeddings (--embeddings FILE)',
    );
  };
  return {
    platform,
    root,
    modelFile,
    documents,
    embeddings,
    bos,
    hub,
    changed,
    async load() {
      const model = await loadFile(target);
      if (findEmbeddingInput(model.proto.graph?.input ?? []) === undefined) return model;
      const embedding = await loadEmbeddings();
      const { noPastBranch } = model;
      const joined = joinEmbedding(model, embedding);
      return noPastBranch === undefined
        ? joined
        : { ...joined, noPastBranch: { ...noPastBranch, model: joinEmbedding(noPastBranch.model, embedding) } };
    },
    loadEmbeddings,
    async checkUnchanged() {
      for (const folder of opened) await folder.checkUnchanged();
    },
    async close() {
      await Promise.all(opened.splice(0).map((folder) => folder.close()));
    },
  };
}

async function locateEmbeddings(files: Files, path: string): Promise<string> {
  if (typeof path !== 'string') throw refusal('embeddings', `is ${String(path)}; expected the path of a file`);
  const target = files.resolve(path);
  if (target.endsWith('.onnx') && (await files.kindOf(target)) === 'file') return target;
  throw refusal('embeddings', `is ${target}; there is no such .onnx file`);
}

/** The folder with the documents, and the model file in it where it is known. */
export interface Location {
  readonly root: string;
  readonly modelFile?: string;
  readonly origin?: HubOrigin | undefined;
}

async function locate(
  platform: Platform,
  named: string,
  { file, ...finding }: Omit<OpenModelOptions, 'embeddings'>,
): Promise<Location> {
  const { files } = platform;
  const path = files.resolve(named);
  const kind = await files.kindOf(path);
  if (kind === undefined) return locateOnHub(platform, named, finding);
  return kind === 'folder' ? { root: path } : locateFile(files, path, file);
}

/** A text that is not a path may be a model's id. @throws OptionError, HubError: a text that can be read as both is called both. */
async function locateOnHub(
  platform: Platform,
  named: string,
  { offline, onProgress, signal }: Pick<OpenModelOptions, 'offline' | keyof JobControl>,
): Promise<Location> {
  const { hub } = platform;
  const missing = `There is no model at ${platform.files.resolve(named)}: no such file or folder`;
  const id = parseModelId(named);
  if (hub === undefined) throw new OptionError(`${missing}.`);
  if (id === undefined)
    throw new OptionError(
      `${missing}, and "${named}" is not an id of the Hugging Face Hub, such as org/name, org/name@revision or org/name:q4.`,
    );
  const request = { id, offline: offline ?? hub.settings.offline, onProgress, signal };
  return fetchHubModel(platform, hub, request).catch((error: unknown) => {
    const said = `${errorMessage(error)}. There is no file or folder ${platform.files.resolve(named)} either.`;
    if (error instanceof HubError) throw new HubError(said, { cause: error, status: error.status });
    if (error instanceof OptionError && error.option === 'model') throw new OptionError(said, { cause: error });
    throw error;
  });
}

/** The documents of `onnx/model.onnx` lie one folder up. */
async function locateFile(files: Files, path: string, file: string | undefined): Promise<Location> {
  if (file !== undefined) throw new OptionError(`${path} is a file, so "${file}" cannot be looked for in it.`);
  if (!path.endsWith('.onnx'))
    throw new OptionError(`${path} is not an .onnx file. Give a model's folder or its .onnx file.`);
  const { folder } = files.split(path);
  const above = files.split(folder);
  const isNested = above.name === 'onnx' && (await files.kindOf(files.resolve(above.folder, 'config.json'))) === 'file';
  const root = isNested ? above.folder : folder;
  return { root, modelFile: files.relative(root, path)! };
}

/** Absolute path of the model file. */
export function modelPath({ platform: { files }, root, modelFile }: ModelFolder): string {
  return files.resolve(root, modelFile);
}

/** Absolute paths of the model file and its external data. */
export function modelPaths(folder: ModelFolder, { storage }: OnnxModel): readonly string[] {
  return filesOf(folder.platform, modelPath(folder), storage);
}

/** Paths of the model's files and of its embedding model: all that decide its outputs. */
export function runPaths(folder: ModelFolder, model: OnnxModel): readonly string[] {
  const { embeddingPrefix } = model;
  return [
    ...modelPaths(folder, model),
    ...(embeddingPrefix ? filesOf(folder.platform, folder.embeddings!, embeddingPrefix.storage) : []),
  ];
}

function filesOf({ files }: Platform, path: string, storage: ModelStorage | undefined): readonly string[] {
  const { folder } = files.split(path);
  return [path, ...(storage?.kind === 'external' ? storage.files.map((file) => files.resolve(folder, file)) : [])];
}

/** Bytes of files together. @throws ModelFormatError when one cannot be read. */
export async function totalBytes({ files }: Platform, paths: readonly string[]): Promise<number> {
  const opened = await Promise.all(paths.map((path) => files.open(path)));
  return opened.reduce((sum, source) => sum + (source?.byteLength ?? 0), 0);
}

/** Longest window that a model can read: what it was made for, and what its graph has positions for. */
export function longestWindow(folder: ModelFolder, positionCount: number | undefined): number | undefined {
  const known = [contextLength(folder), positionCount].filter((length) => length !== undefined);
  return known.length === 0 ? undefined : Math.min(...known);
}

/** Longest window the model was made for, under the names that families give it. */
export function contextLength({ documents }: ModelFolder): number | undefined {
  const config = decoderConfig(documents);
  const named = ['max_position_embeddings', 'n_positions', 'max_sequence_length', 'n_ctx', 'seq_length'];
  const genai = Object(documents['genai_config.json']?.model).context_length as unknown;
  return [...named.map((key) => config[key]), genai].find((value) => typeof value === 'number');
}

/** Sizes that the graph leaves open in its caches. */
export function cacheSizes({ documents }: ModelFolder): CacheSizes {
  const decoder = Object(Object(documents['genai_config.json']?.model).decoder) as JsonObject;
  const firstNumber = (...values: readonly unknown[]) => values.find((value) => typeof value === 'number');
  return {
    headSize: firstNumber(decoderConfig(documents).head_dim, decoder.head_size),
    slidingWindow: firstNumber(Object(decoder.sliding_window).window_size),
  };
}

/** config.json, with what it says of the decoder only in front of what it says of the entire model. */
export function decoderConfig(documents: ModelFolder['documents']): JsonObject {
  const config = documents['config.json'] ?? {};
  return { ...config, ...findTextConfig(config)?.part };
}
