import { fromBinary, toBinary } from '@bufbuild/protobuf';
import { ModelProtoSchema } from 'onnx-buf';
import { FangPruneError } from '../src/errors.js';
import type { PruneOutcome } from '../src/prune/job.js';
import { type Loaded, loadTinyLlama, pruneLoaded, readTinyLlama } from './support/tiny-llama.js';

/** Block 0's maps of the small llama, as the exporter called them. */
const [EMBEDDINGS, GATE, UP, DOWN] = [
  'model.embed_tokens.weight',
  'onnx::MatMul_1899',
  'onnx::MatMul_1900',
  'onnx::MatMul_1901',
];
const [HIDDEN, NEURONS, VOCABULARY] = [192, 512, 2048];

/** The model with weights that `write` changed in place. */
function loadChanged(write: (weightsOf: (name: string) => Float32Array) => void) {
  const proto = fromBinary(ModelProtoSchema, new Uint8Array(readTinyLlama()));
  write((name) => {
    const tensor = proto.graph!.initializer.find((one) => one.name === name)!;
    tensor.rawData = tensor.rawData.slice();
    return new Float32Array(tensor.rawData.buffer);
  });
  return loadTinyLlama(toBinary(ModelProtoSchema, proto));
}

const setNeuron = (weightsOf: (name: string) => Float32Array, neuron: number, from: number | undefined) => {
  const [gate, up, down] = [weightsOf(GATE!), weightsOf(UP!), weightsOf(DOWN!)];
  for (let channel = 0; channel < HIDDEN!; channel++) {
    for (const map of [gate, up])
      map[channel * NEURONS! + neuron] = from === undefined ? 0 : map[channel * NEURONS! + from]!;
    down[neuron * HIDDEN! + channel] = from === undefined ? 0 : down[from * HIDDEN! + channel]!;
  }
};

/** Weights that sound models have here and there, and that formulas divide by. */
const VARIANTS: readonly (readonly [string, (weightsOf: (name: string) => Float32Array) => void])[] = [
  ['tokens that were never learnt', (weightsOf) => weightsOf(EMBEDDINGS!).fill(0, 0, (VOCABULARY! / 2) * HIDDEN!)],
  [
    'dead neurons',
    (weightsOf) => {
      for (let neuron = 0; neuron < 100; neuron++) setNeuron(weightsOf, neuron, undefined);
    },
  ],
  [
    'neurons that are there twice',
    (weightsOf) => {
      for (let neuron = 0; neuron < 100; neuron++) setNeuron(weightsOf, neuron, 200 + neuron);
    },
  ],
];

/** Parameters removed, as a fraction of those that could be. */
function removedShare({ modules }: PruneOutcome, { analysed }: Loaded): number {
  const prunable = analysed.detected.layout.modules.reduce((sum, { parameterCount }) => sum + parameterCount, 0);
  const removed = modules.reduce((sum, { module, keep }) => {
    const units = module.unitCount - keep.length;
    const groups = module.groupCount === undefined ? 0 : units / (module.unitCount / module.groupCount);
    return sum + units * module.parametersPerUnit + groups * module.parametersPerGroup;
  }, 0);
  return removed / prunable;
}

const METHODS = ['auto', 'o-fang', 'flap', 'obc'] as const;

describe.each(VARIANTS)('%s', (_, write) => {
  it.each(METHODS)('are no obstacle to %s', async (method) => {
    const loaded = await loadChanged(write);
    const outcome = await pruneLoaded(loaded, { method, sparsity: 0.3 });
    expect(removedShare(outcome, loaded)).toBeCloseTo(0.3, 1);
    expect([...(outcome.dense.blockChange ?? [])].filter(Number.isNaN)).toEqual([]);
  });
});

describe.each(METHODS)('%s', (method) => {
  it('prunes on windows of one token over and over', async () => {
    const windows = Array.from({ length: 4 }, () => new Int32Array(24).fill(7));
    const loaded = await loadTinyLlama();
    const outcome = await pruneLoaded(loaded, { method, sparsity: 0.3 }, { windows });
    expect(removedShare(outcome, loaded)).toBeCloseTo(0.3, 1);
  });

  it.each([0, 0.95])('reaches a sparsity of %s or says why not', async (sparsity) => {
    const loaded = await loadTinyLlama();
    const outcome = await pruneLoaded(loaded, { method, sparsity }).catch((error: unknown) => error);
    if (outcome instanceof Error) expect(outcome).toBeInstanceOf(FangPruneError);
    else expect(removedShare(outcome as PruneOutcome, loaded)).toBeCloseTo(sparsity, 1);
  });
});
