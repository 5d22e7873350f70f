import { ModelFormatError, UnsupportedModelError } from '../errors.js';
import { loadModel } from '../onnx/load-model.js';
import { findTokenInput } from '../onnx/model-inputs.js';
import type { OnnxModel } from '../onnx/onnx-model.js';
import { shareWeights } from '../onnx/share-weights.js';
import { requireTokenizer } from '../storage/load-tokenizer.js';
import { type ModelFolder, modelPath, TOKENIZER } from '../storage/model-folder.js';
import { type OpenFolder, openFolder } from '../storage/open-folder.js';
import { type JsonObject, readJsonFile } from '../storage/read-json.js';
import { isPart } from '../storage/side-file-names.js';
import { listSideFiles } from '../storage/side-files.js';
import { type ChosenTokens, chooseTokens } from '../vocabulary/choose-tokens.js';
import { idsNamedByGraph } from '../vocabulary/cut-vocabulary.js';
import { readTokenizerFile, type TokenizerFile } from '../vocabulary/tokenizer-file.js';
import { type GraphPart, traceVocabulary } from '../vocabulary/trace-vocabulary.js';
import type { VocabularyTrace } from '../vocabulary/vocabulary-trace.js';
import type { JobContext } from './job-context.js';
import { readTokenSelection, type TokenSelectionOptions } from './read-token-selection.js';
import { remarkShared } from './stage-load.js';

/** A graph as in its file, with the trace of its vocabulary. */
export interface TracedGraph {
  readonly model: OnnxModel;
  readonly trace: VocabularyTrace;
  checkUnchanged(): Promise<void>;
}

/** Planned changes of a folder. */
export interface TrimmingPlan {
  readonly folder: ModelFolder;
  readonly decoder: TracedGraph;
  /** Embedding models in all variants, by path relative to the folder. */
  readonly parts: ReadonlyMap<string, TracedGraph>;
  readonly file: TokenizerFile;
  readonly tokenizerConfig: JsonObject;
  readonly chosen: ChosenTokens;
  /** Rows of the original vocabulary. */
  readonly rows: number;
}

/** Reads graphs and tokenizer, and selects the remaining tokens. */
export function planTrimming(
  context: JobContext,
  folder: ModelFolder,
  options: TokenSelectionOptions,
): Promise<TrimmingPlan> {
  return context.timed('choose', async () => {
    const { platform, signal, onProgress } = context;
    const { files } = platform;
    const tokenizer = await requireTokenizer(folder, 'trimming a vocabulary');
    const read = (name: string) => readJsonFile(files, files.resolve(folder.root, name));
    const file = readTokenizerFile((await read(TOKENIZER))!);
    const tokenizerConfig = (await read('tokenizer_config.json')) ?? {};
    signal?.throwIfAborted();
    const decoder = await openGraph(context, modelPath(folder), 'decoder');
    const parts = await openParts(context, folder, decoder.model);
    const graphs = [decoder, ...parts.values()];
    const rows = Math.max(...graphs.flatMap(({ trace }) => [trace.headRows ?? 0, trace.lookupRows ?? 0]));
    checkTokenizerFits(file, rows);
    const constants = graphs.flatMap(({ trace }) => idsNamedByGraph(trace));
    const selection = await readTokenSelection(files, options, { folder, file, tokenizer, tokenizerConfig, constants });
    const named = new Set([...selection.named].filter((id) => file.contents[id] !== undefined || id < rows));
    const head = {
      rows: decoder.trace.headRows ?? rows,
      multiple: decoder.trace.counted.length > 0 ? CODED_MULTIPLE : 1,
    };
    const chosen = await chooseTokens(file, { ...selection, named, head }, async (done, total) => {
      onProgress?.({ stage: 'choose', done, total });
      await yieldToEvents();
      signal?.throwIfAborted();
    });
    return { folder, decoder, parts, file, tokenizerConfig, chosen, rows };
  });
}

/** Columns of quantised weights per kernel tile. */
const CODED_MULTIPLE = 4;

/** Yields, so that an abort signal can fire. */
const yieldToEvents = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 0));

async function openGraph(context: JobContext, path: string, part: GraphPart): Promise<TracedGraph> {
  const { model, checkUnchanged } = await openModel(context, path);
  return { model, trace: await traceVocabulary(model, part), checkUnchanged };
}

/** Loads a model without lowering; equal tables are shared. */
async function openModel({ platform, remarks, onEnd }: JobContext, path: string): Promise<Omit<TracedGraph, 'trace'>> {
  const place = platform.files.split(path);
  const folder: OpenFolder = openFolder(platform.files, place.folder);
  onEnd(() => folder.close());
  const source = await folder.open(place.name);
  if (source === undefined) throw new ModelFormatError(`${path} is gone.`);
  const model = await shareWeights(await loadModel(source, folder));
  remarks.push(...remarkShared(model));
  return { model, checkUnchanged: folder.checkUnchanged };
}

/** Name of a separate file with the LM head. */
const HEAD_FILES = /(^|\/)lm_head[\w]*\.onnx$/;

/** Models of other parts that read token ids, in all variants. */
async function openParts(
  context: JobContext,
  folder: ModelFolder,
  decoder: OnnxModel,
): Promise<ReadonlyMap<string, TracedGraph>> {
  const { files } = context.platform;
  const { included } = await listSideFiles(files, folder, new Set([folder.modelFile]));
  const named = folder.embeddings === undefined ? undefined : files.relative(folder.root, folder.embeddings);
  const paths = new Set([
    ...included.filter((path) => isPart(path) && path.endsWith('.onnx')),
    ...(named ? [named] : []),
  ]);
  const head = [...paths].find((path) => HEAD_FILES.test(path));
  if (head !== undefined)
    throw new UnsupportedModelError(`${head} is an LM head in a separate file; export it with its decoder`);
  if (
    folder.embeddings !== undefined &&
    named === undefined &&
    findTokenInput(decoder.proto.graph!.input) === undefined
  )
    throw new UnsupportedModelError(
      `the embedding model ${folder.embeddings} is outside the model's folder, so it cannot be trimmed together with the decoder; put it next to the decoder`,
    );
  const parts = new Map<string, TracedGraph>();
  for (const path of [...paths].sort()) {
    const { model, checkUnchanged } = await openModel(context, files.resolve(folder.root, path));
    if (findTokenInput(model.proto.graph!.input) !== undefined)
      parts.set(path, { model, trace: await traceVocabulary(model, 'embedding'), checkUnchanged });
  }
  return parts;
}

/** Least fraction of rows with tokens: models pad their vocabulary, by up to 3 % in known models. */
const MIN_SHARE = 0.9;

/**
 * Checks that a tokenizer fits the model. Padding rows, and added tokens beyond the last row, are common.
 * @throws ModelFormatError
 */
export function checkTokenizerFits({ contents, modelIds, addedIds }: TokenizerFile, rows: number): void {
  let largest = -1;
  for (const id of modelIds.values()) if (!addedIds.has(id)) largest = Math.max(largest, id);
  const excess = largest >= rows ? ` and the token ${JSON.stringify(contents[largest])} the id ${largest}` : '';
  if (excess === '' && contents.length >= MIN_SHARE * rows) return;
  throw new ModelFormatError(
    `tokenizer.json has ${contents.length} tokens${excess}, and the model ${rows} rows of the vocabulary: it is another model's; put the model's own tokenizer.json next to it`,
  );
}
