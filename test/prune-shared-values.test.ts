import type { PruneOptions } from '../src/options.js';
import { checkPruning } from './support/check-pruned.js';
import type { GraphBuilder } from './support/graph-builder.js';
import { expectWholeGradients, measureCurvatures } from './support/measure-curvatures.js';
import { buildSharing } from './support/sharing-decoder.js';
import { buildDecoder, HIDDEN, NEURONS, VOCABULARY } from './support/small-decoder.js';
import { type Loaded, loadTinyLlama } from './support/tiny-llama.js';

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
    expect(outcome.remarks).toContainEqual(
      expect.stringMatching(/^blocks 1-3 attention: keys and values stay whole.*several blocks read them/),
    );
  });

  it('has the gradients of the whole model, through what the blocks share too', () =>
    expectWholeGradients(loaded, VOCABULARY));
});

it('keeps the heads of two blocks where the second reads the keys and values of the first, and nobody else does', async () => {
  const next = await loadTinyLlama(buildSharing(1));
  const { unrecognised } = next.analysed.detected.layout;
  expect(unrecognised.filter(({ kind }) => kind === 'attention')).toHaveLength(2);
  const { outcome, maskedGap } = await checkPruning(
    next,
    { sparsity: 0.4, method: 'flap', perBlockKvHeads: true },
    VOCABULARY,
  );
  expect(maskedGap).toBeLessThan(1e-5);
  expect(outcome.modules.filter(({ module }) => module.kind === 'ffn')).toHaveLength(4);
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
