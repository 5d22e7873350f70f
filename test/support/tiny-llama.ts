import { readFileSync } from 'node:fs';
import { cp, mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fromBinary, toBinary } from '@bufbuild/protobuf';
import { type ModelProto, ModelProtoSchema } from 'onnx-buf';
import { loadModel } from '../../src/onnx/load-model.js';
import { bytesSource, createMemoryFolder } from '../../src/onnx/memory-folder.js';
import { readModelInputs } from '../../src/onnx/model-inputs.js';
import type { OnnxModel } from '../../src/onnx/onnx-model.js';
import { saveModel } from '../../src/onnx/save-model.js';
import { type PruneOptions, resolveOptions } from '../../src/options.js';
import type { PruneJob, PruneOutcome } from '../../src/prune/job.js';
import { pruneModel } from '../../src/prune/prune-model.js';
import { storeInMemory } from '../../src/removal/repair-linear.js';
import { type AnalysedModel, analyseModel } from '../../src/runtime/analyse-model.js';
import type { Tensor, Tensors } from '../../src/runtime/engine.js';
import { prefillFeeds } from '../../src/runtime/prefill-feeds.js';
import { createMemoryStore } from '../../src/runtime/tensor-store.js';
import { testEngine } from './engine.js';

/** The model that comes with the repository: 6 blocks, 8 heads of 24 over 4 KV heads, 512 neurons. */
export const TINY_LLAMA = 'examples/models/tiny-llama';

/** A loaded model and its analysis. */
export interface Loaded {
  readonly model: OnnxModel;
  readonly analysed: AnalysedModel;
}

/** Loads and analyses the model, or other bytes. */
export async function loadTinyLlama(bytes: Uint8Array = readTinyLlama()): Promise<Loaded> {
  const model = await loadModel(bytesSource('model.onnx', bytes), createMemoryFolder('none'));
  return { model, analysed: await analyseModel(model, testEngine) };
}

export const readTinyLlama = (): Uint8Array => readFileSync(join(TINY_LLAMA, 'onnx/model.onnx'));

/** Deterministic windows of tokens of the vocabulary. */
export function someWindows(count: number, length: number): Int32Array[] {
  return Array.from({ length: count }, (_, window) =>
    Int32Array.from({ length }, (_, at) => (window * 7919 + at * at * 31 + at * 613) % 2048),
  );
}

/** Prunes on a few short windows unless the job says otherwise. */
export function pruneLoaded(
  { model, analysed }: Loaded,
  options: PruneOptions,
  job: Partial<PruneJob> = {},
): Promise<PruneOutcome> {
  return pruneModel({
    model,
    analysed,
    engine: testEngine,
    windows: someWindows(4, 24),
    options: resolveOptions(options),
    store: storeInMemory,
    createStore: createMemoryStore,
    ...job,
  });
}

/** The model as one file. */
export async function bytesOf(model: OnnxModel): Promise<Uint8Array> {
  const files = new Map<string, Uint8Array>();
  await saveModel(model, createMemoryFolder('memory', files), 'model.onnx');
  return files.get('model.onnx')!;
}

/** Runs an entire model on windows of equal length, without past. */
export async function runModel(
  model: OnnxModel,
  windows: readonly Int32Array[],
  fetches: readonly string[] = ['logits'],
): Promise<Tensors> {
  const [results] = await runOnTexts(model, [windows], fetches);
  return results!;
}

/** Runs it on several texts in one session. */
async function runOnTexts(
  model: OnnxModel,
  texts: readonly (readonly Int32Array[])[],
  fetches: readonly string[],
): Promise<Tensors[]> {
  const session = await testEngine.load(await bytesOf(model));
  const inputs = readModelInputs(model.proto.graph!);
  const all: Tensors[] = [];
  try {
    for (const windows of texts) {
      const size = { batchSize: windows.length, sequenceLength: windows[0]!.length };
      const tokens = windows.flatMap((window) => [...window]);
      all.push(await session.run(prefillFeeds(inputs, size, tokens), fetches));
    }
    return all;
  } finally {
    await session.release();
  }
}

/** Mean next-token cross-entropy over windows of equal length, in nats. */
export async function meanLoss(model: OnnxModel, windows: readonly Int32Array[]): Promise<number> {
  const [loss] = await meanLosses(model, [windows]);
  return loss!;
}

/** `meanLoss` of several texts, by one session. */
export async function meanLosses(model: OnnxModel, texts: readonly (readonly Int32Array[])[]): Promise<number[]> {
  const all = await runOnTexts(model, texts, ['logits']);
  return all.map(({ logits }, at) => lossOf(logits!, texts[at]!));
}

function lossOf({ data, dims }: Tensor, windows: readonly Int32Array[]): number {
  const [, length = 0, vocabulary = 0] = dims;
  const logits = data as Float32Array;
  let sum = 0;
  windows.forEach((window, row) => {
    for (let at = 0; at + 1 < length; at += 1) {
      const start = (row * length + at) * vocabulary;
      let total = 0;
      for (let id = 0; id < vocabulary; id += 1) total += Math.exp(logits[start + id]!);
      sum += Math.log(total) - logits[start + window[at + 1]!]!;
    }
  });
  return sum / (windows.length * (length - 1));
}

/** Largest difference of two lists of equal length, relative to the range of the second. */
export function relativeGap(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  if (actual.length !== expected.length) return Number.POSITIVE_INFINITY;
  const values = Array.from(expected);
  const range =
    values.reduce((most, value) => Math.max(most, value), Number.NEGATIVE_INFINITY) -
    values.reduce((least, value) => Math.min(least, value), Number.POSITIVE_INFINITY);
  return values.reduce((worst, value, at) => Math.max(worst, Math.abs(value - actual[at]!)), 0) / range;
}

/** Copies what makes a model folder, without texts and tasks; `edit` may change the graph. */
export const copyTinyLlama = (folder: string, edit?: (proto: ModelProto) => void): Promise<string> =>
  copyLlama(TINY_LLAMA, folder, edit);

/** Copies another folder with such a model. */
export async function copyLlama(from: string, folder: string, edit?: (proto: ModelProto) => void): Promise<string> {
  await mkdir(join(folder, 'onnx'), { recursive: true });
  for (const name of ['config.json', 'generation_config.json', 'tokenizer.json', 'tokenizer_config.json', 'README.md'])
    await cp(join(from, name), join(folder, name));
  const target = join(folder, 'onnx/model.onnx');
  const model = join(from, 'onnx/model.onnx');
  if (edit === undefined) await cp(model, target);
  else await writeFile(target, editModel(readFileSync(model), edit));
  return folder;
}

/** Changes a model file's graph. */
export function editModel(bytes: Uint8Array, edit: (proto: ModelProto) => void): Uint8Array {
  const proto = fromBinary(ModelProtoSchema, bytes);
  edit(proto);
  return toBinary(ModelProtoSchema, proto);
}
