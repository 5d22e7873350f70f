import { countPositions } from '../architecture/count-positions.js';
import { errorMessage } from '../error-message.js';
import { HubError, ModelFormatError, OptionError, UnsupportedModelError } from '../errors.js';
import type { CacheSizes } from '../evaluation/model-interface.js';
import { joinEmbedding } from '../onnx/join-embedding.js';
import { loadModel } from '../onnx/load-model.js';
import { splitMerged } from '../onnx/merged-decoder.js';
import { findEmbeddingInput } from '../onnx/model-inputs.js';
import type { ModelStorage, OnnxModel } from '../onnx/onnx-model.js';
import { shareWeights } from '../onnx/share-weights.js';
import { isRepoName, parseModelId } from '../options/model-id.js';
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

/** Configuration files next to a model. */
const MODEL_DOCUMENTS = ['config.json', 'generation_config.json', 'genai_config.json'] as const;

export type ModelDocument = (typeof MODEL_DOCUMENTS)[number];

/** The tokenizer next to a model. */
export const TOKENIZER = 'tokenizer.json';

/** JSON files of the tokenizer, which are copied to results. */
const TOKENIZER_FILES = [
  TOKENIZER,
  'tokenizer_config.json',
  'special_tokens_map.json',
  'added_tokens.json',
  'chat_template.json',
] as const;

/** A model in its folder, with its side files. */
export interface ModelFolder {
  /** Platform that reads it. */
  readonly platform: Platform;
  /** Absolute path of the folder with config and tokenizer. */
  readonly root: string;
  /** The model file relative to `root`, with `/`: `onnx/model.onnx` (transformers.js) or `model.onnx` (genai). */
  readonly modelFile: string;
  /** Parsed JSON files that exist. */
  readonly documents: Readonly<Partial<Record<ModelDocument, JsonObject>>>;
  /** Absolute path of the embedding model, if there is one. */
  readonly embeddings: string | undefined;
  /** Whether texts begin with the tokens that the tokenizer's post-processor adds. */
  readonly bos: boolean;
  /** Origin of a download; undefined for local models. */
  readonly hub: HubOrigin | undefined;
  /** Present if `load` returns models that differ from the files, so that a runtime cannot open the files instead. */
  readonly changed?: ChangedModels | undefined;
  /**
   * Loads the model; its weights can be read until `close`. A decoder that reads embeddings is joined to its embedding model.
   * @throws ModelFormatError; UnsupportedModelError when it reads embeddings and no embedding model is known.
   */
  load(): Promise<OnnxModel>;
  /** Loads the embedding model. @throws ModelFormatError; UnsupportedModelError when none is known. */
  loadEmbeddings(): Promise<OnnxModel>;
  /**
   * Longest window that the model can read, in tokens: limited by its configuration, and by the position tables of its
   * graph. Undefined: neither limits it.
   * @throws as `load`
   */
  longestWindow(): Promise<number | undefined>;
  /** @throws ModelFormatError when a file of the model has changed since it was loaded. */
  checkUnchanged(): Promise<void>;
  /** Closes the open files. */
  close(): Promise<void>;
}

/** Models that differ from their files. */
export interface ChangedModels {
  /** Models of other parts than the decoder, by path relative to the folder, for saving. */
  readonly parts: ReadonlyMap<string, OnnxModel>;
  /** Changes a model that was read from an absolute path. */
  change(model: OnnxModel, path: string): Promise<OnnxModel>;
}

/** Options for finding a model and its embedding model. */
export interface SourceOptions {
  /**
   * Embedding model of a decoder that reads `inputs_embeds` instead of token ids: an `.onnx` file. Decoders that read ids
   * need none. Default: the one in the model's folder, as transformers.js (`embed_tokens.onnx`) and onnxruntime-genai
   * (`genai_config.json`) name it.
   */
  readonly embeddings?: string | undefined;
  /**
   * Use models of the Hugging Face Hub only from the cache, without network. Default: the value of `HF_HUB_OFFLINE`, else
   * false.
   */
  readonly offline?: boolean | undefined;
}

/** Model and engine of a call. */
export interface ModelRequest extends JobControl, SourceOptions, EngineChoice {
  /** A folder in transformers.js or onnxruntime-genai layout, an `.onnx` file, or a model of the Hugging Face Hub, `org/name`. */
  readonly model: string;
}

export interface OpenModelOptions extends SourceOptions, ReadingOptions, JobControl {
  /**
   * ONNX file of the folder, relative to it. Default: `onnx/model.onnx`, `model.onnx`, the decoder that
   * `genai_config.json` names, or the only decoder, fp32 before fp16.
   */
  readonly file?: string | undefined;
}

/**
 * Finds a model and its side files; those of a model of the Hub are downloaded first unless they are in the cache.
 * @param path a folder in transformers.js or onnxruntime-genai layout, an `.onnx` file, or, where there is neither, a model of the
 * Hub: `org/name`, `org/name@revision`, `org/name:dtype`
 * @throws OptionError when nothing is found; UnsupportedModelError for an encoder-decoder, or a model without ONNX files;
 * ModelFormatError when a JSON file is damaged, or a download does not match its hash; HubError.
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

/** Options for reading a model's files. */
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
  // Checked before the run begins, but not kept: a hundred thousand objects would slow down the garbage collector.
  for (const name of TOKENIZER_FILES) await readJsonFile(files, files.resolve(root, name));
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
    if (source === undefined) throw new ModelFormatError(`${path} was removed meanwhile.`);
    const read = await loadModel(source, folder);
    const model = changed === undefined ? read : await changed.change(read, path);
    return dequantiseGraph(await shareWeights(splitMerged(model)));
  };
  const loadEmbeddings = async () => {
    if (embeddings !== undefined) return loadFile(embeddings);
    throw new UnsupportedModelError(
      `${target} reads inputs_embeds instead of input_ids, and there is no embedding model next to it (embed_tokens.onnx, ` +
        'or embedding.onnx); name the ONNX file that turns token ids into embeddings by embeddings (--embeddings FILE)',
    );
  };
  const load = async () => {
    const model = await loadFile(target);
    if (findEmbeddingInput(model.proto.graph?.input ?? []) === undefined) return model;
    const embedding = await loadEmbeddings();
    const { noPastBranch } = model;
    const joined = joinEmbedding(model, embedding);
    return noPastBranch === undefined
      ? joined
      : { ...joined, noPastBranch: { ...noPastBranch, model: joinEmbedding(noPastBranch.model, embedding) } };
  };
  const findLongestWindow = async () => {
    const { graph } = (await load()).proto;
    return smallest([contextLength(documents), graph && countPositions(graph)]);
  };
  let longestWindow: Promise<number | undefined> | undefined;
  return {
    platform,
    root,
    modelFile,
    documents,
    embeddings,
    bos,
    hub,
    changed,
    load,
    loadEmbeddings,
    longestWindow() {
      longestWindow ??= findLongestWindow();
      return longestWindow;
    },
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

/** Folder with the configuration files, and the model file in it if known. */
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

/** Finds a model of the Hub. @throws OptionError, HubError, whose messages also mention the missing path. */
async function locateOnHub(
  platform: Platform,
  named: string,
  { offline, onProgress, signal }: Pick<OpenModelOptions, 'offline' | keyof JobControl>,
): Promise<Location> {
  const { hub } = platform;
  const missing = `There is no model at ${platform.files.resolve(named)}: no such file or folder`;
  const id = parseModelId(named);
  if (hub === undefined) throw new OptionError(`${missing}.`);
  const [, linked] = /^https?:\/\/[^/]+\/([^/?#]+\/[^/?#]+)/.exec(named) ?? [];
  if (linked !== undefined && isRepoName(linked))
    throw new OptionError(`"${named}" is an address. Give the model's id on the Hugging Face Hub: ${linked}.`);
  if (id === undefined)
    throw new OptionError(
      `${missing}, and "${named}" is not an id of the Hugging Face Hub, such as org/name, org/name@revision or org/name:q4.`,
    );
  const request = { id, offline: offline ?? hub.settings.offline, onProgress, signal };
  return fetchHubModel(platform, hub, request).catch((error: unknown) => {
    const message = `${errorMessage(error)}. There is no file or folder ${platform.files.resolve(named)} either.`;
    if (error instanceof HubError) throw new HubError(message, { cause: error, status: error.status });
    if (error instanceof OptionError && error.option === 'model') throw new OptionError(message, { cause: error });
    throw error;
  });
}

/** Finds the folder of an ONNX file: for `onnx/model.onnx` it is one folder up. */
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

/** Absolute paths of the files that determine the model's outputs: its own, and those of its embedding model. */
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

/** Total bytes of files. @throws ModelFormatError when one cannot be read. */
export async function totalBytes({ files }: Platform, paths: readonly string[]): Promise<number> {
  const opened = await Promise.all(paths.map((path) => files.open(path)));
  return opened.reduce((sum, source) => sum + (source?.byteLength ?? 0), 0);
}

/** Longest window that all models can read, in tokens. Undefined: none has a limit. */
export async function longestWindowOf(folders: readonly ModelFolder[]): Promise<number | undefined> {
  const limits = await Promise.all(folders.map((folder) => folder.longestWindow()));
  return smallest(limits);
}

const smallest = (limits: readonly (number | undefined)[]): number | undefined => {
  const known = limits.filter((limit) => limit !== undefined);
  return known.length === 0 ? undefined : Math.min(...known);
};

/** Context length of the configuration, whose key depends on the family. */
function contextLength(documents: ModelFolder['documents']): number | undefined {
  const config = decoderConfig(documents);
  const named = ['max_position_embeddings', 'n_positions', 'max_sequence_length', 'n_ctx', 'seq_length'];
  const genai = Object(documents['genai_config.json']?.model).context_length as unknown;
  return [...named.map((key) => config[key]), genai].find((value) => typeof value === 'number');
}

/** Sizes of caches, for graphs that do not declare them. */
export function cacheSizes({ documents }: ModelFolder): CacheSizes {
  const decoder = Object(Object(documents['genai_config.json']?.model).decoder) as JsonObject;
  const firstNumber = (...values: readonly unknown[]) => values.find((value) => typeof value === 'number');
  return {
    headSize: firstNumber(decoderConfig(documents).head_dim, decoder.head_size),
    slidingWindow: firstNumber(Object(decoder.sliding_window).window_size),
  };
}

/** config.json, where fields of the text decoder override those of the entire model. */
export function decoderConfig(documents: ModelFolder['documents']): JsonObject {
  const config = documents['config.json'] ?? {};
  return { ...config, ...findTextConfig(config)?.part };
}
