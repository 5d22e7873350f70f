import type { PruneOptions } from '../src/options.js';
import { checkPruning } from './support/check-pruned.js';
import type { GraphBuilder } from './support/graph-builder.js';
import { expectWholeGradients, measureCurvatures } from './support/measure-curvatures.js';
import {
  type BlockSite,
  buildDecoder,
  HEAD_SIZE,
  HEADS,
  HIDDEN,
  layerNorm,
  linear,
  NEURONS,
  type Part,
  repeatHeads,
  selfAttention,
  separate,
  toHeads,
  VOCABULARY,
} from './support/small-decoder.js';
import { type Loaded, loadTinyLlama } from './support/tiny-llama.js';

const [BLOCKS, PER_LAYER] = [4, 6];

/**
 * A decoder as Gemma 3n and 4 have it: every block adds a projection of the token's own per-layer embedding, and the last two blocks read
 * the keys and values of the second.
 */
function buildSharing(): Uint8Array {
  let perLayer: readonly string[] = [];
  const shared: string[] = [];
  const spread = (site: Pick<BlockSite, 'g'>, x: string) => repeatHeads(2)(site.g, x);
  const own = selfAttention({ project: separate(2), spread: (g, x) => spread({ g }, x) });
  const making = selfAttention({
    project: separate(2),
    spread: (g, x) => {
      const heads = spread({ g }, x);
      shared.push(heads);
      return heads;
    },
  });
  const reading: Part = ({ g, mask }, x) => {
    const [keys = '', values = ''] = shared;
    const query = toHeads(g, linear(g, x, HIDDEN, HEADS * HEAD_SIZE), HEADS);
    const scores = g.op('MatMul', [query, g.op('Transpose', [keys], { perm: [0, 1, 3, 2] })]);
    const probabilities = g.op('Softmax', [g.op('Add', [scores, mask])], { axis: -1 });
    const mixed = g.op('Transpose', [g.op('MatMul', [probabilities, values])], { perm: [0, 2, 1, 3] });
    return linear(g, g.op('Reshape', [mixed, g.ints(0, 0, HIDDEN)]), HIDDEN, HIDDEN);
  };
  return buildDecoder({
    blockCount: BLOCKS,
    attention: (site, x) => [own, making, reading, reading][site.block]!(site, x),
    before(g, x) {
      const embedded = g.op('Gather', [g.weight([VOCABULARY, BLOCKS * PER_LAYER], 0.5), 'input_ids']);
      const projected = g.op('MatMul', [x, g.weight([HIDDEN, BLOCKS * PER_LAYER], 0.5)]);
      const both = g.op('Reshape', [g.op('Add', [embedded, projected]), g.ints(0, 0, BLOCKS, PER_LAYER)]);
      perLayer = Array.from({ length: BLOCKS }, (_, at) => g.op('Gather', [both, g.intScalar(at)], { axis: 2 }));
      return x;
    },
    compose({ g, ...site }, x, { attention, ffn }) {
      const attended = g.op('Add', [x, attention({ g, ...site }, layerNorm(g, x))]);
      const fed = g.op('Add', [attended, ffn({ g, ...site }, layerNorm(g, attended))]);
      const gate = g.op('Tanh', [g.op('MatMul', [fed, g.weight([HIDDEN, PER_LAYER])])]);
      const weighted = g.op('Mul', [gate, perLayer[site.block]!]);
      return g.op('Add', [fed, g.op('MatMul', [weighted, g.weight([PER_LAYER, HIDDEN])])]);
    },
  });
}

let loaded: Loaded;
beforeAll(async () => {
  loaded = await loadTinyLlama(buildSharing());
});

describe('a decoder whose blocks share per-layer inputs, keys and values', () => {
  it('has as many blocks as layers, each with attention and FFN', () => {
    const { layout } = loaded.analysed.detected;
    expect(layout.modules.map(({ block, kind, attentionType = 'none' }) => [block, kind, attentionType])).toEqual([
      [0, 'attention', 'full'],
      [0, 'ffn', 'none'],
      [1, 'attention', 'shared'],
      [1, 'ffn', 'none'],
      [2, 'attention', 'shared'],
      [2, 'ffn', 'none'],
      [3, 'attention', 'shared'],
      [3, 'ffn', 'none'],
    ]);
    expect(layout.unrecognised.map(({ block, kind }) => [block, kind])).toEqual(
      [0, 1, 2, 3].map((block) => [block, 'per-layer input']),
    );
  });

  const METHODS: readonly PruneOptions[] = [
    { sparsity: 0.4, method: 'flap' },
    { sparsity: 0.4, perBlockKvHeads: true },
    { sparsity: 0.4, method: 'magnitude', modules: 'attention' },
  ];

  it.each(METHODS)('computes what the masked original does: %j', async (options) => {
    const { outcome, maskedGap, cacheGap } = await checkPruning(loaded, options, VOCABULARY);
    expect(maskedGap).toBeLessThan(1e-5);
    expect(cacheGap).toBeLessThan(1e-5);
    const smaller = outcome.modules.filter(({ module, keep }) => keep.length < module.unitCount);
    expect(new Set(smaller.map(({ module }) => module.kind)).size).toBeGreaterThan(0);
    expect(smaller.some(({ module }) => module.attentionType === 'shared')).toBe(true);
  });

  it('has the gradients of the whole model, through what the blocks share too', () =>
    expectWholeGradients(loaded, VOCABULARY));
});

it('has finite gradients where a token has an embedding of zeros', async () => {
  const rms = (g: GraphBuilder, x: string) =>
    g.op('SimplifiedLayerNormalization', [x, g.weight([HIDDEN], 0.1, 1)], { axis: -1, epsilon: { float: 1e-6 } });
  const bytes = buildDecoder({
    before: (g, x) => {
      const known = g.op('Cast', [g.op('Not', [g.op('Equal', ['input_ids', g.intScalar(0)])])], { to: 1 });
      return g.op('Mul', [x, g.op('Unsqueeze', [known, g.ints(-1)])]);
    },
    compose: ({ g }, x) => {
      // Each norm at a vector of zeros multiplies a gradient by a thousand.
      const normed = Array.from({ length: 6 }).reduce<string>((value) => rms(g, value), x);
      const neurons = g.op('Relu', [g.op('MatMul', [normed, g.weight([HIDDEN, NEURONS])])]);
      return g.op('Add', [x, rms(g, g.op('MatMul', [neurons, g.weight([NEURONS, HIDDEN])]))]);
    },
    blockCount: 3,
  });
  const sparse = await loadTinyLlama(bytes);
  const windows = [Int32Array.of(0, 3, 9, 4, 0, 7), Int32Array.of(5, 0, 1, 2, 6, 8)];
  for (const matrix of await measureCurvatures(sparse, windows)) {
    expect(matrix.every(Number.isFinite)).toBe(true);
    expect(Math.max(...matrix)).toBeLessThan(1e6);
  }
});
