/**
 * Prunes models at several sparsities and compares each result with its masked original: dense graph, removed channels
 * zeroed, repairs applied. Also steps through the KV cache token by token and compares with one prefill.
 *
 *   npx tsx scripts/check-models.ts FILE.onnx ... [--method flap] [--sparsity 0.1,0.3,0.5] [--head-unit group]
 */
import { dirname, basename } from 'node:path';
import * as ort from 'onnxruntime-node';
import { resolveOptions } from '../src/options.js';
import { createOrtEngine } from '../src/runtime/ort-engine.js';
import { analyseModel } from '../src/runtime/analyse-model.js';
import { createMemoryStates } from '../src/runtime/hidden-states.js';
import { prefillFeeds } from '../src/runtime/prefill-feeds.js';
import { pastAxes, readModelInputs } from '../src/graph/model-inputs.js';
import { createRandom } from '../src/linalg/random.js';
import { loadModel } from '../src/onnx/load-model.js';
import { createMemoryFolder } from '../src/onnx/memory-folder.js';
import { saveModel } from '../src/onnx/save-model.js';
import { copyModel } from '../src/onnx/edit-weights.js';
import type { OnnxModel } from '../src/onnx/onnx-model.js';
import { decodeFloats } from '../src/onnx/float-encoding.js';
import { pruneModel } from '../src/prune.js';
import { maskUnits } from '../src/removal/mask-units.js';
import { readLinearWeight, storeInMemory } from '../src/removal/repair-linear.js';
import { openFolder } from './_open-folder.js';
import type { Tensor } from '../src/runtime/engine.js';

const engine = createOrtEngine(ort);
const argument = (name: string, fallback: string) => {
  const at = process.argv.indexOf(`--${name}`);
  return at < 0 ? fallback : process.argv[at + 1]!;
};
const files = process.argv.slice(2).filter((value, at, all) => !value.startsWith('--') && !all[at - 1]?.startsWith('--'));

async function bytesOf(model: OnnxModel): Promise<Uint8Array> {
  const map = new Map<string, Uint8Array>();
  await saveModel(model, createMemoryFolder('memory', map), 'model.onnx', { layout: 'inline' });
  return map.get('model.onnx')!;
}

const floats = (tensor: Tensor) => (tensor.type === 'float16' ? decodeFloats(10, new Uint8Array(tensor.data.slice().buffer)) : (tensor.data as Float32Array));

async function logitsOf(model: OnnxModel, logits: string, tokens: Int32Array, size: { batchSize: number; sequenceLength: number }) {
  const session = await engine.load(await bytesOf(model));
  try {
    const out = await session.run(prefillFeeds(readModelInputs(model.proto.graph!), size, tokens), [logits]);
    return floats(out[logits]!);
  } finally {
    await session.release();
  }
}

async function stepByStep(model: OnnxModel, logits: string, tokens: Int32Array): Promise<Float32Array> {
  const inputs = readModelInputs(model.proto.graph!);
  const outputs = model.proto.graph!.output.map(({ name }) => name).filter((name) => name !== logits);
  const pasts = inputs.filter(({ role }) => role === 'past');
  const session = await engine.load(await bytesOf(model));
  let cache: Record<string, Tensor> = {};
  const rows: Float32Array[] = [];
  try {
    for (let at = 0; at < tokens.length; at += 1) {
      const feeds: Record<string, Tensor> = prefillFeeds(inputs, { batchSize: 1, sequenceLength: 1 }, [tokens[at]!]);
      for (const input of inputs) {
        const whole = prefillFeeds([input], { batchSize: 1, sequenceLength: at + 1 })[input.name]!;
        if (input.role === 'attentionMask') feeds[input.name] = whole;
        if (input.role === 'positions') feeds[input.name] = { ...whole, dims: [1, 1], data: whole.data.slice(at) } as Tensor;
      }
      const out = await session.run({ ...feeds, ...cache });
      rows.push(floats(out[logits]!));
      cache = Object.fromEntries(pasts.map(({ name }, k) => [name, out[outputs[k]!]!]));
    }
  } finally {
    await session.release();
  }
  void pastAxes;
  return Float32Array.from(rows.flatMap((row) => [...row]));
}

function distance(a: Float32Array, b: Float32Array): number {
  const range = b.reduce((most, value) => Math.max(most, value), -Infinity) - b.reduce((least, value) => Math.min(least, value), Infinity);
  return a.reduce((worst, value, at) => Math.max(worst, Math.abs(value - b[at]!)), 0) / range;
}

for (const file of files) {
  const folder = openFolder(dirname(file));
  let model: OnnxModel;
  let analysed: Awaited<ReturnType<typeof analyseModel>>;
  try {
    model = await loadModel((await folder.open(basename(file)))!, folder);
    analysed = await analyseModel(model, engine);
  } catch (error) {
    console.log(`${file}: ${(error as Error).name}: ${(error as Error).message.slice(0, 200)}`);
    continue;
  }
  const { layout } = analysed.detected;
  const random = createRandom(1);
  const window = () => Int32Array.from({ length: 16 }, () => Math.floor(random() * layout.vocabularySize));
  const windows = Array.from({ length: 4 }, window);
  const dense = await logitsOf(model, layout.logits, windows[0]!, { batchSize: 1, sequenceLength: 16 });
  for (const modules of argument('modules', 'ffn,attention,all').split(',') as ('ffn' | 'attention' | 'all')[]) {
    for (const sparsity of argument('sparsity', '0.1,0.3,0.5').split(',').map(Number)) {
      const what = `${file.split('/').slice(-4).join('/')} ${modules} ${sparsity}`;
      try {
        const options = resolveOptions({ sparsity, modules, method: argument('method', 'flap'), headUnit: argument('head-unit', 'group') as 'group', allocation: argument('allocation','uniform') as 'uniform' });
        const outcome = await pruneModel({ model, analysed, engine, windows, options, store: storeInMemory, createStates: createMemoryStates });
        const masked = copyModel(model);
        for (const { module, keep, bias } of outcome.modules) {
          const kept = await readLinearWeight(outcome.model, module.output);
          const weight = Float32Array.from({ length: kept.size }, (_, at) => kept.get(Math.floor(at / kept.shape[1]!), at % kept.shape[1]!));
          await maskUnits(masked, { module, keep, bias, weight });
        }
        const pruned = await logitsOf(outcome.model, layout.logits, windows[0]!, { batchSize: 1, sequenceLength: 16 });
        const reference = await logitsOf(masked, layout.logits, windows[0]!, { batchSize: 1, sequenceLength: 16 });
        const pasts = readModelInputs(model.proto.graph!).some(({ role }) => role === 'past');
        const stepped = pasts ? distance(await stepByStep(outcome.model, layout.logits, windows[0]!), pruned) : 0;
        const removed = outcome.modules.map(({ module, keep }) => `${module.unitCount - keep.length}/${module.unitCount}`);
        const bytes = [(await bytesOf(model)).length, (await bytesOf(outcome.model)).length];
        const gap = distance(pruned, reference);
        const tolerance = [...model.weights.values()].some(({ dataType }) => dataType === 10) ? 1e-2 : 1e-4;
        const bad = !(gap < tolerance) || !(stepped < tolerance);
        console.log(`${bad ? 'BAD ' : 'ok  '}${what}: masked ${gap.toExponential(1)} cache ${stepped.toExponential(1)} dense ${distance(pruned, dense).toExponential(1)} removed ${[...new Set(removed)].join(' ')} bytes ${bytes.join(' -> ')}`);
      } catch (error) {
        console.log(`FAIL ${what}: ${process.env.V ? (error as Error).stack : (error as Error).message.slice(0, 300)}`);
      }
    }
  }
}
