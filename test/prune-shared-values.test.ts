import type { OnnxModel } from '../src/onnx/onnx-model.js';
import type { PruneOptions } from '../src/options.js';
import { applyChange } from '../src/removal/apply-change.js';
import { checkPruning } from './support/check-pruned.js';
import type { GraphBuilder } from './support/graph-builder.js';
import { expectWholeGradients, measureCurvatures } from './support/measure-curvatures.js';
import { buildSharing, type SharingShape } from './support/sharing-decoder.js';
import { buildDecoder, HEAD_SIZE, HEADS, HIDDEN, NEURONS, VOCABULARY } from './support/small-decoder.js';
import { type Loaded, loadTinyLlama } from './support/tiny-llama.js';

let loaded: Loaded;
beforeAll(async () => {
  loaded = await loadTinyLlama(buildSharing());
});

describe('a decoder whose blocks share per-layer inputs, keys and values', () => {
  it('has four blocks with attention and FFN, and per-layer inputs that are not recognised', () => {
    const { layout } = loaded.analysed.detected;
    expect(layout.modules.map(({ block, kind, attentionType = 'none' }) => [block, kind, attentionType])).toEqual([
      [0, 'attention', 'full'],
      [0, 'ffn', 'none'],
      [1, 'attention', 'full'],
      [1, 'ffn', 'none'],
      [2, 'attention', 'full'],
      [2, 'ffn', 'none'],
      [3, 'attention', 'full'],
      [3, 'ffn', 'none'],
    ]);
    expect(layout.unrecognised.map(({ block, kind }) => [block, kind])).toEqual(
      [0, 1, 2, 3].map((block) => [block, 'per-layer input']),
    );
  });

  it('counts the parameters of shared keys and values once', () => {
    const heads = loaded.analysed.detected.layout.modules.filter(({ kind }) => kind === 'attention');
    expect(heads.map(({ keyValueSource }) => keyValueSource)).toEqual([undefined, 2, 2, 2]);
    expect(heads.map(({ kvHeadCount }) => kvHeadCount)).toEqual([2, 2, 2, 2]);
    const keysAndValues = 2 * (HIDDEN + 1) * HEAD_SIZE;
    expect(heads.map(({ parametersPerGroup }) => parametersPerGroup)).toEqual([keysAndValues, keysAndValues, 0, 0]);
  });

  it('has the same gradients block by block as of the entire model', () => expectWholeGradients(loaded, VOCABULARY));
});

describe('keys and values that several blocks read', () => {
  const SHAPES: readonly (readonly [string, SharingShape])[] = [
    ['are copied for their query heads', {}],
    ['are read from the cache', { shares: 'cache' }],
    ['are read by the next block alone', { readers: 1, shares: 'cache' }],
    ['have one head for each query head', { kvHeads: 4 }],
  ];
  const METHODS: readonly PruneOptions[] = [
    { sparsity: 0.4, method: 'flap' },
    { sparsity: 0.4, method: 'obc', allocation: 'uniform', modules: 'attention', perBlockKvHeads: true },
    { sparsity: 0.4, modules: 'attention' },
    { sparsity: 0.4, method: 'magnitude', modules: 'attention', shots: 2 },
    { sparsity: 0.3, method: 'flap', blockSparsity: { 2: { attention: 0.5 } }, perBlockKvHeads: true },
  ];

  it.each(SHAPES)('lose the same heads in all of these blocks: %s', async (_, shape) => {
    const sharing = await loadTinyLlama(buildSharing(shape));
    for (const options of METHODS.slice(
      0,
      shape.shares === 'cache' && shape.readers === undefined ? METHODS.length : 2,
    )) {
      const { outcome, maskedGap, cacheGap } = await checkPruning(sharing, options, VOCABULARY);
      expect(maskedGap).toBeLessThan(1e-5);
      expect(cacheGap).toBeLessThan(1e-5);
      const [first, ...others] = outcome.modules.filter(({ module }) => module.keyValueSource !== undefined);
      expect(first!.keep.length).toBe(HEADS / 2);
      expect(others).toHaveLength(shape.readers ?? 2);
      for (const { keep } of others) expect(keep).toEqual(first!.keep);
      expect(cachedHeads(outcome.model, 1)).toEqual([(shape.kvHeads ?? 2) / 2, (shape.kvHeads ?? 2) / 2]);
      const again = applyChange(sharing.model, sharing.analysed, outcome);
      expect(weightShapes(again)).toEqual(weightShapes(outcome.model));
    }
  });

  it('are not pruned with headUnit "query"', async () => {
    const options: PruneOptions = { sparsity: 0.4, method: 'flap', modules: 'attention', headUnit: 'query' };
    const { outcome, maskedGap, cacheGap } = await checkPruning(loaded, options, VOCABULARY);
    expect(maskedGap).toBeLessThan(1e-5);
    expect(cacheGap).toBeLessThan(1e-5);
    expect(outcome.modules.every(({ keep }) => keep.length === HEADS / 2)).toBe(true);
    expect(cachedHeads(outcome.model, 1)).toEqual([2, 2]);
  });

  it('are not pruned, with a remark, if blocks read them in different orders', async () => {
    const reversed = await loadTinyLlama(buildSharing({ reversed: true }));
    const options: PruneOptions = { sparsity: 0.4, method: 'flap' };
    const { outcome, maskedGap, cacheGap } = await checkPruning(reversed, options, VOCABULARY);
    expect(maskedGap).toBeLessThan(1e-5);
    expect(cacheGap).toBeLessThan(1e-5);
    expect(outcome.modules.some(({ module }) => module.attentionType === 'shared')).toBe(true);
    expect(outcome.remarks).toContainEqual(
      expect.stringMatching(
        /^blocks 1-3 attention: keys, values and their caches are not pruned.*several blocks read them/,
      ),
    );
    expect(cachedHeads(outcome.model, 1)).toEqual([2, 2]);
  });
});

/** Heads of keys and values that a block returns. */
const cachedHeads = ({ proto }: OnnxModel, block: number) =>
  proto.graph!.output.flatMap(({ name, type }) => {
    if (!name.startsWith(`present.${block}.`) || type?.value.case !== 'tensorType') return [];
    const heads = type.value.value.shape!.dim[1]!.value;
    return heads.case === 'dimValue' ? [Number(heads.value)] : [];
  });

const weightShapes = ({ weights }: OnnxModel) => new Map([...weights].map(([name, { dims }]) => [name, dims]));

it('has finite curvatures if a token has an embedding of zeros', async () => {
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
