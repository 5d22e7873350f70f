import { fromBinary, toBinary } from '@bufbuild/protobuf';
import { ModelProtoSchema } from 'onnx-buf';
import { FangPruneError, NumericalError } from '../src/errors.js';
import type { PruneOutcome } from '../src/prune/job.js';
import { loadShortLlama, readShortLlama } from './support/short-llama.js';
import { type Loaded, loadTinyLlama, pruneLoaded, someWindows } from './support/tiny-llama.js';

/** Block 0's linear layers of the small llama, as the exporter named them. */
const [EMBEDDINGS, GATE, UP, DOWN] = [
  'model.embed_tokens.weight',
  'onnx::MatMul_1899',
  'onnx::MatMul_1900',
  'onnx::MatMul_1901',
];
const [HIDDEN, NEURONS, VOCABULARY] = [192, 256, 2048];

/** The model with weights that `write` changed in place. */
function loadChanged(write: (weightsOf: (name: string) => Float32Array) => void) {
  const proto = fromBinary(ModelProtoSchema, new Uint8Array(readShortLlama()));
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

const shrinksFirst = ({ modules }: PruneOutcome) =>
  modules.some(({ module }) => module.block === 0 && module.kind === 'ffn');

/** Weights that valid models may have, and that lead to divisions by zero. */
const VARIANTS: readonly (readonly [
  string,
  (weightsOf: (name: string) => Float32Array) => void,
  remark: RegExp,
  isAffected: (outcome: PruneOutcome) => boolean,
])[] = [
  [
    'tokens with untrained embeddings',
    (weightsOf) => weightsOf(EMBEDDINGS!).fill(0, 0, (VOCABULARY! / 2) * HIDDEN!),
    /^\d+ of \d+ calibration tokens have a hidden state of zeros before or after block 0, such as tokens with an untrained embedding/,
    ({ dense }) => dense.blockChange !== undefined,
  ],
  [
    'dead neurons',
    (weightsOf) => {
      for (let neuron = 0; neuron < 100; neuron++) setNeuron(weightsOf, neuron, undefined);
    },
    /^\d+ of \d+ FFN neurons are zero on all calibration tokens \(block 0\)/,
    shrinksFirst,
  ],
  [
    'duplicate neurons',
    (weightsOf) => {
      for (let neuron = 0; neuron < 100; neuron++) setNeuron(weightsOf, neuron, 128 + neuron);
    },
    /^\d+ of \d+ FFN neurons equal another one of their group on all calibration tokens \(block 0\)/,
    shrinksFirst,
  ],
];

/** Removed parameters as a fraction of the prunable ones. */
function removedFraction({ modules }: PruneOutcome, { analysed }: Loaded): number {
  const prunable = analysed.detected.layout.modules.reduce((sum, { parameterCount }) => sum + parameterCount, 0);
  const removed = modules.reduce((sum, { module, keep }) => {
    const units = module.unitCount - keep.length;
    const groups = module.groupCount === undefined ? 0 : units / (module.unitCount / module.groupCount);
    return sum + units * module.parametersPerUnit + groups * module.parametersPerGroup;
  }, 0);
  return removed / prunable;
}

const METHODS = ['auto', 'o-fang', 'flap', 'obc'] as const;

let short: Loaded;
let infinite: Loaded;
beforeAll(async () => {
  short = await loadShortLlama();
  infinite = await loadChanged((weightsOf) => weightsOf(EMBEDDINGS!).fill(Infinity, 7 * HIDDEN!, 8 * HIDDEN!));
});

describe.each(VARIANTS)('%s', (_, write, remark, isAffected) => {
  let loaded: Loaded;
  beforeAll(async () => {
    loaded = await loadChanged(write);
  });

  it.each(METHODS)('allow %s to meet the sparsity, and are remarked on', async (method) => {
    const outcome = await pruneLoaded(loaded, { method, sparsity: 0.3 });
    expect(removedFraction(outcome, loaded)).toBeCloseTo(0.3, 1);
    expect([...(outcome.dense.blockChange ?? [])].filter(Number.isNaN)).toEqual([]);
    if (isAffected(outcome)) expect(outcome.remarks).toContainEqual(expect.stringMatching(remark));
  });
});

it.each(['flap', 'obc'] as const)(
  '%s meets the sparsity if some windows are only padding, with a remark',
  async (method) => {
    const [first, second] = someWindows(2, 24);
    const windows = [first!, new Int32Array(24), second!, new Int32Array(24)];
    const outcome = await pruneLoaded(short, { method, sparsity: 0.3 }, { windows });
    expect(removedFraction(outcome, short)).toBeCloseTo(0.3, 1);
    expect(outcome.remarks).toContainEqual(
      expect.stringMatching(/^2 of 4 calibration windows repeat a single token, such as padding \(window 1: token 0\)/),
    );
  },
);

describe.each(METHODS)('%s', (method) => {
  it('meets the sparsity on windows that repeat one token, with remarks', async () => {
    const windows = Array.from({ length: 4 }, () => new Int32Array(24).fill(7));
    const outcome = await pruneLoaded(short, { method, sparsity: 0.3 }, { windows });
    expect(removedFraction(outcome, short)).toBeCloseTo(0.3, 1);
    const repeated =
      '4 of 4 calibration windows repeat a single token, such as padding (window 0: token 7); they carry little information';
    expect(outcome.remarks).toContain(repeated);
    expect(outcome.remarks).toContainEqual(expect.stringMatching(/ are the same on all calibration tokens /));
  });

  it('throws NumericalError if an embedding in one window is infinite', async () => {
    const [first, ...others] = someWindows(4, 24);
    const windows = [...others, first!.with(3, 7)];
    const pruning = pruneLoaded(infinite, { method, sparsity: 0.3 }, { windows });
    await expect(pruning).rejects.toThrow(NumericalError);
  });

  it.each([0, 0.95])('reaches a sparsity of %s or throws a typed error', async (sparsity) => {
    const outcome = await pruneLoaded(short, { method, sparsity }).catch((error: unknown) => error);
    if (outcome instanceof Error) expect(outcome).toBeInstanceOf(FangPruneError);
    else expect(removedFraction(outcome as PruneOutcome, short)).toBeCloseTo(sparsity, 1);
  });
});
