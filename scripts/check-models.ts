/**
 * Prunes models at several sparsities and compares each result with its masked original: the dense graph with the removed
 * channels zeroed and the repairs applied. Also steps through the KV cache token by token and compares with one prefill.
 *
 *   npx tsx scripts/check-models.ts FILE.onnx ... [--method flap] [--modules ffn,attention,all] [--sparsity 0.1,0.3,0.5]
 *     [--head-unit group,query] [--allocation uniform] [--gone 1,2] [--input-steps 2]
 *
 * `--gone`: blocks whose entire FFN is removed.
 */
import { parseArgs } from 'node:util';
import * as ort from 'onnxruntime-node';
import { createRandom } from '../src/linalg/random.js';
import { openModelFolder } from '../src/node.js';
import { decodeFloats } from '../src/onnx/float-encoding.js';
import { createMemoryFolder } from '../src/onnx/memory-folder.js';
import { type ModelInput, readModelInputs } from '../src/onnx/model-inputs.js';
import type { OnnxModel } from '../src/onnx/onnx-model.js';
import { saveModel } from '../src/onnx/save-model.js';
import { type AllocationName, type HeadUnit, type ModuleSelection, resolveOptions } from '../src/options.js';
import type { PruneOutcome } from '../src/prune/job.js';
import { pruneModel } from '../src/prune/prune-model.js';
import { maskModel } from '../src/removal/mask-model.js';
import { storeInMemory } from '../src/removal/repair-linear.js';
import { type AnalysedModel, analyseModel } from '../src/runtime/analyse-model.js';
import type { Tensor, Tensors } from '../src/runtime/engine.js';
import { lowerForRun } from '../src/runtime/lower-for-run.js';
import { createOrtEngine } from '../src/runtime/ort-engine.js';
import { prefillFeeds } from '../src/runtime/prefill-feeds.js';
import { createMemoryStore } from '../src/runtime/tensor-store.js';

const { values: flags, positionals: files } = parseArgs({
  allowPositionals: true,
  options: {
    method: { type: 'string', default: 'flap' },
    modules: { type: 'string', default: 'ffn,attention,all' },
    sparsity: { type: 'string', default: '0.1,0.3,0.5' },
    'head-unit': { type: 'string', default: 'group' },
    allocation: { type: 'string', default: 'uniform' },
    'input-steps': { type: 'string', default: '0' },
    gone: { type: 'string', default: '' },
  },
});

/** Largest allowed difference of logits, as a fraction of their range. */
const TOLERANCE = { float32: 1e-4, float16: 1e-2 };

const WINDOW = { batchSize: 1, sequenceLength: 16 };
const engine = createOrtEngine(ort);

interface Subject {
  readonly name: string;
  readonly model: OnnxModel;
  readonly analysed: AnalysedModel;
  readonly logits: string;
  readonly windows: readonly Int32Array[];
  readonly dense: Float32Array;
}

for (const file of files) {
  const folder = await openModelFolder(file);
  try {
    await checkModel(file, await folder.load());
  } catch (error) {
    console.log(`REFUSED ${shortName(file)}: ${messageOf(error)}`);
  } finally {
    await folder.close();
  }
}

async function checkModel(file: string, model: OnnxModel): Promise<void> {
  const analysed = await analyseModel(model, engine);
  const { logits, vocabularySize } = analysed.detected.layout;
  const random = createRandom(1);
  const windows = Array.from({ length: 4 }, () =>
    Int32Array.from({ length: WINDOW.sequenceLength }, () => Math.floor(random() * vocabularySize)),
  );
  const dense = await logitsOf(model, logits, windows[0]!);
  const subject = { name: shortName(file), model, analysed, logits, windows, dense };
  for (const modules of flags.modules.split(',') as ModuleSelection[]) {
    for (const headUnit of flags['head-unit'].split(',') as HeadUnit[]) {
      for (const sparsity of flags.sparsity.split(',').map(Number)) {
        await checkPruning(subject, { modules, headUnit, sparsity });
      }
    }
  }
}

interface Variant {
  readonly modules: ModuleSelection;
  readonly headUnit: HeadUnit;
  readonly sparsity: number;
}

async function checkPruning(
  { name, model, analysed, logits, windows, dense }: Subject,
  variant: Variant,
): Promise<void> {
  const what = `${name} ${variant.modules} ${variant.headUnit} ${variant.sparsity}`;
  try {
    const options = resolveOptions({
      ...variant,
      method: flags.method,
      allocation: flags.allocation as AllocationName,
      inputSteps: Number(flags['input-steps']),
      ...wholeFfns(),
    });
    const job = {
      model,
      analysed,
      engine,
      windows,
      options,
      store: storeInMemory,
      createStore: async () => createMemoryStore(),
    };
    const outcome = await pruneModel(job);
    const pruned = await logitsOf(outcome.model, logits, windows[0]!);
    const masked = await logitsOf(
      await maskModel(model, outcome, { analysed, store: storeInMemory }),
      logits,
      windows[0]!,
    );
    const gap = distance(pruned, masked);
    const stepped = hasCache(model)
      ? distance(await stepByStep(outcome.model, logits, windows[0]!), pruned)
      : undefined;
    const isHalf = [...model.weights.values()].some(({ dataType }) => dataType === 10);
    const tolerance = isHalf ? TOLERANCE.float16 : TOLERANCE.float32;
    const isGood = gap <= tolerance && (stepped ?? 0) <= tolerance;
    console.log(
      `${isGood ? 'ok' : 'BAD'} ${what}: masked ${gap.toExponential(1)}, cache ${stepped?.toExponential(1) ?? 'none'}, ` +
        `dense ${distance(pruned, dense).toExponential(1)}, removed ${removedOf(outcome)}, ` +
        `nodes ${model.proto.graph!.node.length} -> ${outcome.model.proto.graph!.node.length}, ` +
        outcome.remarks.map((remark) => `${remark}, `).join('') +
        `bytes ${(await bytesOf(model)).length} -> ${(await bytesOf(outcome.model)).length}`,
    );
  } catch (error) {
    console.log(`FAIL ${what}: ${messageOf(error)}`);
  }
}

function wholeFfns() {
  if (flags.gone === '') return {};
  const blockSparsity = Object.fromEntries(flags.gone.split(',').map((block) => [block, { ffn: 1 }]));
  return { allocation: 'global', minimumWidth: 0, blockSparsity } as const;
}

function removedOf({ modules }: PruneOutcome): string {
  return [...new Set(modules.map(({ module, keep }) => `${module.unitCount - keep.length}/${module.unitCount}`))].join(
    ' ',
  );
}

async function logitsOf(model: OnnxModel, logits: string, tokens: Int32Array): Promise<Float32Array> {
  const session = await engine.load(await bytesOf(runnable(model)));
  try {
    const results = await session.run(prefillFeeds(inputsOf(model), WINDOW, tokens), [logits]);
    return floats(results[logits]!);
  } finally {
    await session.release();
  }
}

/** Logits of one token at a time, each run fed with the cache that the run before handed out. */
async function stepByStep(model: OnnxModel, logits: string, tokens: Int32Array): Promise<Float32Array> {
  const inputs = inputsOf(model);
  const caches = inputs.filter(({ role }) => role === 'past');
  const presents = model.proto.graph!.output.map(({ name }) => name).filter((name) => name !== logits);
  const session = await engine.load(await bytesOf(runnable(model)));
  const rows: Float32Array[] = [];
  let cache: Tensors = {};
  try {
    for (const [at, token] of tokens.entries()) {
      const results = await session.run({ ...stepFeeds(inputs, at, token), ...cache });
      rows.push(floats(results[logits]!));
      cache = Object.fromEntries(caches.map(({ name }, index) => [name, results[presents[index]!]!]));
    }
  } finally {
    await session.release();
  }
  return Float32Array.from(rows.flatMap((row) => [...row]));
}

function stepFeeds(inputs: readonly ModelInput[], at: number, token: number): Record<string, Tensor> {
  const feeds = prefillFeeds(inputs, { batchSize: 1, sequenceLength: 1 }, [token]);
  for (const input of inputs) {
    const whole = prefillFeeds([input], { batchSize: 1, sequenceLength: at + 1 })[input.name]!;
    if (input.role === 'attentionMask') feeds[input.name] = whole;
    if (input.role === 'positions')
      feeds[input.name] = { ...whole, dims: [1, 1], data: whole.data.slice(at) } as Tensor;
  }
  return feeds;
}

/** The model with operators that ONNX Runtime cannot run in their form written out. */
function runnable({ proto, weights }: OnnxModel): OnnxModel {
  const graph = { ...proto.graph!, node: lowerForRun(proto.graph!) };
  return { proto: { ...proto, graph }, weights };
}

async function bytesOf(model: OnnxModel): Promise<Uint8Array> {
  const files = new Map<string, Uint8Array>();
  await saveModel(model, createMemoryFolder('memory', files), 'model.onnx', { layout: 'inline' });
  return files.get('model.onnx')!;
}

function floats(tensor: Tensor): Float32Array {
  if (tensor.type === 'float16') return decodeFloats(10, new Uint8Array(tensor.data.slice().buffer));
  return tensor.data as Float32Array;
}

/** Largest difference, as a fraction of the range of `b`. */
function distance(a: Float32Array, b: Float32Array): number {
  const [least, most] = b.reduce(([low, high], value) => [Math.min(low, value), Math.max(high, value)], [
    Infinity,
    -Infinity,
  ] as [number, number]);
  return a.reduce((worst, value, at) => Math.max(worst, Math.abs(value - b[at]!)), 0) / (most - least);
}

function inputsOf({ proto }: OnnxModel): ModelInput[] {
  return readModelInputs(proto.graph!);
}

function hasCache(model: OnnxModel): boolean {
  return inputsOf(model).some(({ role }) => role === 'past');
}

function shortName(file: string): string {
  return file.split('/').slice(-3).join('/');
}

function messageOf(error: unknown): string {
  return error instanceof Error ? `${error.name}: ${error.message}`.slice(0, 400) : String(error);
}
