import type { PruneOptions } from '../src/options.js';
import { describeModel } from '../src/report/describe-model.js';
import { checkPruning } from './support/check-pruned.js';
import type { GraphBuilder } from './support/graph-builder.js';
import { repairedInputs } from './support/masked.js';
import {
  type BlockSite,
  buildDecoder,
  type DecoderShape,
  HEAD_SIZE,
  HEADS,
  type Heads,
  HIDDEN,
  layerNorm,
  linear,
  NEURONS,
  postNorm,
  repeatHeads,
  selfAttention,
  separate,
  toHeads,
  VOCABULARY,
} from './support/small-decoder.js';
import { loadTinyLlama } from './support/tiny-llama.js';

/** The cast after a cache whose type a float16 converter keeps. */
const castToFloat = (g: GraphBuilder, past: string) => g.op('Cast', [past], { to: 1 });

/** The slice of a cache for a sliding window longer than in the tests, as dynamo exports it, after a cast. */
const cutToWindow = (g: GraphBuilder, past: string) =>
  g.op('Slice', [castToFloat(g, past), g.ints(-30), g.ints(1000), g.ints(2)]);

/** The concatenation of a cache with nothing, as TorchScript exports it where transformers joins it with an empty one. */
const joinNothing = (g: GraphBuilder, past: string) => g.op('Concat', [past], { axis: 2 });

/** Query, key and value side by side within each head, as in GPT-NeoX. */
const packedByHead = ({ g }: BlockSite, x: string): Heads => {
  const heads = g.op('Reshape', [linear(g, x, HIDDEN, 3 * HIDDEN), g.ints(0, 0, HEADS, 3 * HEAD_SIZE)]);
  const [query, key, value] = g
    .ops('Split', [heads, g.ints(HEAD_SIZE, HEAD_SIZE, HEAD_SIZE)], 3, { axis: 3 })
    .map((part) => g.op('Transpose', [part], { perm: [0, 2, 1, 3] })) as [string, string, string];
  return { query, key, value, kvHeads: HEADS };
};

/** Query, key and value on an axis of their own, as in BLOOM. */
const packedOnAxis = ({ g }: BlockSite, x: string): Heads => {
  const heads = g.op('Reshape', [linear(g, x, HIDDEN, 3 * HIDDEN), g.ints(0, 0, HEADS, 3, HEAD_SIZE)]);
  const pick = (at: number) =>
    g.op('Transpose', [g.op('Gather', [heads, g.intScalar(at)], { axis: 3 })], { perm: [0, 2, 1, 3] });
  return { query: pick(0), key: pick(1), value: pick(2), kvHeads: HEADS };
};

/** All query heads, then one key and one value, as in Falcon 7B. */
const multiQuery = ({ g }: BlockSite, x: string): Heads => {
  const heads = toHeads(g, linear(g, x, HIDDEN, (HEADS + 2) * HEAD_SIZE), HEADS + 2);
  const [query, key, value] = g.ops('Split', [heads, g.ints(HEADS, 1, 1)], 3, { axis: 1 }) as [string, string, string];
  return { query, key, value, kvHeads: 1 };
};

/** Two query heads with their key and value in each group, picked by GatherND, as in dynamo's Falcon 40B. */
const packedByGroup = ({ g }: BlockSite, x: string): Heads => {
  const [groups, members] = [2, HEADS / 2];
  const packed = g.op('Reshape', [
    linear(g, x, HIDDEN, groups * (members + 2) * HEAD_SIZE),
    g.ints(0, 0, groups, members + 2, HEAD_SIZE),
  ]);
  const merge = (parts: string) =>
    g.op('Transpose', [g.op('Reshape', [parts, g.ints(0, 0, HEADS, HEAD_SIZE)])], { perm: [0, 2, 1, 3] });
  const pick = (at: number) => {
    const turned = g.op('Transpose', [packed], { perm: [3, 0, 1, 2, 4] });
    const index = g.op('Reshape', [g.ints(at), g.ints(1, 1)]);
    const one = g.op('Transpose', [g.op('GatherND', [turned, index])], { perm: [1, 2, 3, 0, 4] });
    return merge(g.op('Expand', [one, g.ints(1, 1, groups, members, 1)]));
  };
  const query = g.op('Slice', [packed, g.ints(0), g.ints(members), g.ints(3)]);
  return { query: merge(query), key: pick(members), value: pick(members + 1), kvHeads: HEADS };
};

/** Half of each head is rotated, as in Phi-2 and StableLM. */
const partlyRotated = (site: BlockSite, x: string): Heads => {
  const { g, rows } = site;
  const { query, key, ...rest } = separate(HEADS)(site, x);
  const half = HEAD_SIZE / 4;
  const angles = g.op('Unsqueeze', [g.op('Cast', [rows], { to: 1 }), g.ints(1)]);
  const [cos, sin] = ['Cos', 'Sin'].map((op) => g.op(op, [angles])) as [string, string];
  const part = (value: string, from: number, to: number) => g.op('Slice', [value, g.ints(from), g.ints(to), g.ints(3)]);
  const turn = (value: string) => {
    const turned = part(value, 0, 2 * half);
    const swapped = g.op('Concat', [g.op('Neg', [part(turned, half, 2 * half)]), part(turned, 0, half)], { axis: 3 });
    const rotated = g.op('Add', [g.op('Mul', [turned, cos]), g.op('Mul', [swapped, sin])]);
    return g.op('Concat', [rotated, part(value, 2 * half, HEAD_SIZE)], { axis: 3 });
  };
  return { query: turn(query), key: turn(key), ...rest };
};

/** Half of each key is the same for all heads, as in DeepSeek. */
const partlyShared = (site: BlockSite, x: string): Heads => {
  const { g } = site;
  const { key, ...rest } = separate(HEADS)(site, x);
  const half = (value: string) => g.op('Slice', [value, g.ints(0), g.ints(HEAD_SIZE / 2), g.ints(3)]);
  const shared = half(toHeads(g, linear(g, x, HIDDEN, HEAD_SIZE), 1));
  const copies = g.op('Expand', [shared, g.ints(1, HEADS, 1, 1)]);
  return { ...rest, key: g.op('Concat', [half(key), copies], { axis: 3 }) };
};

/** Rotated by positions in time, height and width, as in Qwen2-VL. */
const rotatedOnAxes = ({ g, block }: BlockSite, x: string): Heads => {
  const positions = 'position_ids';
  if (block === 0) g.input(positions, 7, [3, 'batch', 'sequence']);
  const tables = [0, 1].map(() => g.weight([16, HEAD_SIZE / 2], 1));
  const attributes = { num_heads: HEADS, mrope_section: [1, 1, 0] };
  const make = () => linear(g, x, HIDDEN, HIDDEN);
  const rotate = () => g.op('MRotaryEmbedding', [make(), positions, ...tables], attributes, 'com.microsoft');
  const [query, key, value] = [rotate(), rotate(), make()].map((part) => toHeads(g, part, HEADS)) as [
    string,
    string,
    string,
  ];
  return { query, key, value, kvHeads: HEADS };
};

/** All query heads are normalised together by one operator, all key heads by several, as in OLMo 2. */
const normedOverHeads = (site: BlockSite, x: string): Heads => {
  const { g } = site;
  const kvHeads = HEADS / 2;
  const query = toHeads(g, layerNorm(g, linear(g, x, HIDDEN, HIDDEN)), HEADS);
  const [wide, value] = [0, 1].map(() => linear(g, x, HIDDEN, kvHeads * HEAD_SIZE)) as [string, string];
  const mean = g.op('ReduceMean', [g.op('Pow', [wide, g.scalar(2)])], { axes: [-1], keepdims: 1 });
  const scale = g.op('Reciprocal', [g.op('Sqrt', [g.op('Add', [mean, g.scalar(1e-6)])])]);
  const key = g.op('Mul', [g.weight([kvHeads * HEAD_SIZE], 0.2, 1), g.op('Mul', [wide, scale])]);
  return { query, key: toHeads(g, key, kvHeads), value: toHeads(g, value, kvHeads), kvHeads };
};

/** Scores fall with the distance, by a slope per head, as in BLOOM and MPT. */
const alibi = ({ g, columns, rows }: BlockSite): string => {
  const slopes = g.floats(
    [HEADS, 1, 1],
    Array.from({ length: HEADS }, (_, head) => 2 ** -(head + 1)),
  );
  const distance = g.op('Sub', [g.op('Unsqueeze', [columns, g.ints(0)]), g.op('Unsqueeze', [rows, g.ints(1)])]);
  return g.op('Mul', [slopes, g.op('Cast', [distance], { to: 1 })]);
};

/** The products as Einsum, as in hand-written models. */
const byEinsum = (site: BlockSite, x: string): string => {
  const { g, mask } = site;
  const split = (value: string) => g.op('Reshape', [value, g.ints(0, 0, HEADS, HEAD_SIZE)]);
  const [query, key, value] = [0, 1, 2].map(() => split(linear(g, x, HIDDEN, HIDDEN))) as [string, string, string];
  const scores = g.op('Einsum', [query, key], { equation: 'bqhd,bkhd->bhqk' });
  const probabilities = g.op('Softmax', [g.op('Add', [scores, mask])], { axis: -1 });
  const mixed = g.op('Einsum', [probabilities, value], { equation: 'bhqk,bkhd->bqhd' });
  return linear(g, g.op('Reshape', [mixed, g.ints(0, 0, HIDDEN)]), HIDDEN, HIDDEN);
};

/** Attention and FFN read the same hidden state, and both are added to it. */
const parallel: NonNullable<DecoderShape['compose']> = (site, x, { attention, ffn }) => {
  const normed = layerNorm(site.g, x);
  return site.g.op('Add', [site.g.op('Add', [attention(site, normed), ffn(site, normed)]), x]);
};

/** Norms after the residual sums, as in the first GPT and OPT-350M. */
const normedSum: NonNullable<DecoderShape['compose']> = (site, x, { attention, ffn }) => {
  const { g } = site;
  const middle = layerNorm(g, g.op('Add', [x, attention(site, x)]));
  return layerNorm(g, g.op('Add', [middle, ffn(site, middle)]));
};

/** Batch and window become one axis for the FFN and the sum behind it, as in OPT. */
const flattened: NonNullable<DecoderShape['compose']> = (site, x, { attention, ffn }) => {
  const { g } = site;
  const middle = g.op('Add', [x, attention(site, layerNorm(g, x))]);
  const rows = g.op('Reshape', [middle, g.ints(-1, HIDDEN)]);
  const sum = g.op('Add', [rows, ffn(site, layerNorm(g, rows))]);
  return g.op('Reshape', [sum, g.op('Shape', [middle])]);
};

const project = (from: number, to: number) => (g: GraphBuilder, x: string) => g.op('MatMul', [x, g.weight([from, to])]);

const heads = (description: string, count: number, kvHeads: number, headSize = HEAD_SIZE) => ({
  kind: 'attention',
  description,
  heads: count,
  kvHeads,
  headSize,
});
const MULTI_HEAD = heads('multi-head attention', HEADS, HEADS);

const FAMILIES: readonly (readonly [string, DecoderShape, object])[] = [
  ['pre-norm, FFN after attention', {}, MULTI_HEAD],
  [
    'parallel attention and FFN, qkv packed by head',
    { compose: parallel, attention: selfAttention({ project: packedByHead }) },
    MULTI_HEAD,
  ],
  ['qkv packed on an axis, ALiBi', { attention: selfAttention({ project: packedOnAxis, bias: alibi }) }, MULTI_HEAD],
  [
    'multi-query by broadcast',
    { compose: parallel, attention: selfAttention({ project: multiQuery }) },
    heads('multi-query attention', HEADS, 1),
  ],
  [
    'multi-query by repeat',
    { attention: selfAttention({ project: separate(1), spread: repeatHeads(1) }) },
    heads('multi-query attention', HEADS, 1),
  ],
  [
    'grouped queries',
    { attention: selfAttention({ project: separate(2), spread: repeatHeads(2) }) },
    heads('grouped-query attention', HEADS, 2),
  ],
  [
    'qkv packed by group',
    { attention: selfAttention({ project: packedByGroup }) },
    heads('grouped-query attention', HEADS, 2),
  ],
  [
    'norms over all heads',
    { attention: selfAttention({ project: normedOverHeads, spread: repeatHeads(HEADS / 2) }) },
    heads('grouped-query attention', HEADS, HEADS / 2),
  ],
  ['keys partly shared', { attention: selfAttention({ project: partlyShared }) }, MULTI_HEAD],
  ['partial rotary', { attention: selfAttention({ project: partlyRotated }) }, MULTI_HEAD],
  ['rotary on three axes', { attention: selfAttention({ project: rotatedOnAxes }) }, MULTI_HEAD],
  ['tokens flattened for the FFN', { compose: flattened }, MULTI_HEAD],
  ['norms after attention and FFN', { compose: postNorm }, MULTI_HEAD],
  [
    'norms after the residual sums, projected embeddings',
    { compose: normedSum, embeddingSize: 8, before: project(8, HIDDEN), after: project(HIDDEN, 8) },
    MULTI_HEAD,
  ],
  ['Einsum', { attention: byEinsum }, MULTI_HEAD],
  ['caches with casts', { attention: selfAttention({ cached: castToFloat }) }, MULTI_HEAD],
  ['caches cut to a window', { attention: selfAttention({ cached: cutToWindow }) }, MULTI_HEAD],
  ['caches joined with nothing', { attention: selfAttention({ cached: joinNothing }) }, MULTI_HEAD],
];

describe.each(FAMILIES)('%s', (_, shape, attention) => {
  it('is described completely, and equals the masked original when pruned', async () => {
    const loaded = await loadTinyLlama(buildDecoder(shape));
    const description = describeModel('small', loaded.model, loaded.analysed);
    expect(description.unrecognised).toEqual([]);
    expect(description.hiddenSize).toBe(HIDDEN);
    expect(description.blocks).toHaveLength(2);
    for (const { isNormalized = false } of loaded.analysed.detected.layout.modules)
      expect(isNormalized).toBe(shape.compose === postNorm);
    for (const { modules } of description.blocks) {
      expect(modules.map(({ parameters, ...what }) => what)).toEqual(
        expect.arrayContaining([attention, { kind: 'ffn', description: 'plain ffn', width: NEURONS }]),
      );
    }
    const check = await checkPruning(loaded, { sparsity: 0.5, method: 'flap' }, VOCABULARY);
    expect(check.outcome.modules.filter(({ module }) => module.kind === 'ffn')).toHaveLength(2);
    expect(check.maskedGap).toBeLessThan(1e-5);
    expect(check.cacheGap).toBeLessThan(1e-5);
  });

  it('has the gradients of the default method, which repairs input projections', async () => {
    const loaded = await loadTinyLlama(buildDecoder(shape));
    const { outcome, maskedGap } = await checkPruning(loaded, { sparsity: 0.3, inputSteps: 2 }, VOCABULARY);
    expect(outcome.modules.length).toBeGreaterThan(0);
    expect(outcome.remarks.filter((remark) => remark.includes('its input projections were not repaired'))).toEqual([]);
    for (const cut of outcome.modules)
      expect(repairedInputs(outcome, loaded, cut).length > 0).toBe(cut.module.kind === 'ffn');
    expect(maskedGap).toBeLessThan(1e-5);
  });
});

it('removes heads in two shots if a norm spans all of them', async () => {
  const attention = selfAttention({ project: normedOverHeads, spread: repeatHeads(HEADS / 2) });
  const loaded = await loadTinyLlama(buildDecoder({ attention }));
  const options: PruneOptions = { sparsity: 0.5, method: 'flap', modules: 'attention', shots: 2, headUnit: 'query' };
  const { outcome, maskedGap, cacheGap } = await checkPruning(loaded, options, VOCABULARY);
  expect(outcome.modules.map(({ keep }) => keep.length)).toEqual([2, 2]);
  expect(maskedGap).toBeLessThan(1e-5);
  expect(cacheGap).toBeLessThan(1e-5);
});
