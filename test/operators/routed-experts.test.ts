import { UnsupportedModelError } from '../../src/errors.js';
import { differentiateModel } from '../../src/runtime/differentiate-model.js';
import type { Tensor } from '../../src/runtime/engine.js';
import { prefillFeeds } from '../../src/runtime/prefill-feeds.js';
import { testEngine } from '../support/engine.js';
import type { GraphBuilder } from '../support/graph-builder.js';
import { buildDecoder, HIDDEN, NEURONS, type Part, VOCABULARY } from '../support/small-decoder.js';
import { loadTinyLlama, pruneLoaded, someWindows } from '../support/tiny-llama.js';

const [EXPERTS, CHOSEN] = [5, 2];
type Activation = (g: GraphBuilder, x: string) => string;
const relu: Activation = (g, x) => g.op('Relu', [x]);

/** Router and experts over tokens `[T, C]`; `mix` sends tokens to experts and combines their outputs. */
const experts =
  (mix: (g: GraphBuilder, x: string, parts: Parts) => string, activation = relu): Part =>
  ({ g }, hidden) => {
    const x = g.op('Reshape', [hidden, g.ints(-1, HIDDEN)]);
    const scores = g.op('Softmax', [g.op('MatMul', [x, g.weight([HIDDEN, EXPERTS], 2)])], { axis: -1 });
    const [shares, chosen] = g.ops('TopK', [scores, g.ints(CHOSEN)], 2, { axis: -1 }) as [string, string];
    const weights = Array.from({ length: EXPERTS }, () => [g.weight([HIDDEN, NEURONS]), g.weight([NEURONS, HIDDEN])]);
    const expert = (at: number, tokens: string): string => {
      const [up = '', down = ''] = weights[at] ?? [];
      return g.op('MatMul', [activation(g, g.op('MatMul', [tokens, up])), down]);
    };
    return g.op('Reshape', [mix(g, x, { shares, chosen, expert }), g.op('Shape', [hidden])]);
  };

interface Parts {
  /** `[T, k]`: weights of the chosen experts of each token, and their indices. */
  readonly shares: string;
  readonly chosen: string;
  expert(at: number, tokens: string): string;
}

/** As optimum exports it: each expert computes only its tokens, and its outputs are scattered to their positions. */
const routed = experts.bind(undefined, (g, x, { shares, chosen, expert }) => {
  const marks = g.op('OneHot', [chosen, g.ints(EXPERTS), g.ints(0, 1)], { axis: -1 });
  const masks = g.op('Transpose', [marks], { perm: [2, 1, 0] });
  const nothing = g.op('Mul', [x, g.scalar(0)]);
  const zeros = g.op('ConstantOfShape', [g.op('Shape', [nothing])]);
  let sum = zeros;
  for (let at = 0; at < EXPERTS; at += 1) {
    const mask = g.op('Cast', [g.op('Gather', [masks, g.intScalar(at)], { axis: 0 })], { to: 9 });
    const places = g.op('Transpose', [g.op('NonZero', [mask])], { perm: [1, 0] });
    const [slot, token] = g
      .ops('Split', [places, g.ints(1, 1)], 2, { axis: 1 })
      .map((part) => g.op('Squeeze', [part, g.ints(1)])) as [string, string];
    const tokens = g.op('Reshape', [
      g.op('Gather', [g.op('Unsqueeze', [x, g.ints(0)]), token], { axis: 1 }),
      g.ints(-1, HIDDEN),
    ]);
    const flat = g.op('Flatten', [g.op('Unsqueeze', [shares, g.ints(2)])], { axis: 2 });
    const share = g.op('Gather', [flat, g.op('Add', [slot, g.op('Mul', [token, g.intScalar(CHOSEN)])])], { axis: 0 });
    const made = g.op('Mul', [expert(at, tokens), share]);
    const updates = g.op('Expand', [made, g.ints(1, HIDDEN)]);
    const index = g.op('Expand', [g.op('Unsqueeze', [token, g.ints(1)]), g.op('Shape', [updates])]);
    sum = g.op('Add', [sum, g.op('ScatterElements', [zeros, index, updates], { axis: 0 })]);
  }
  return sum;
});

/** A mixture that computes every expert for every token. */
const dense = experts.bind(undefined, (g, x, { shares, chosen, expert }) => {
  const marks = g.op('OneHot', [chosen, g.ints(EXPERTS), g.floats([2], [0, 1])], { axis: -1 });
  const weights = g.op('ReduceSum', [g.op('Mul', [marks, g.op('Unsqueeze', [shares, g.ints(2)])]), g.ints(1)], {
    keepdims: 0,
  });
  const parts = Array.from({ length: EXPERTS }, (_, at) =>
    g.op('Mul', [expert(at, x), g.op('Gather', [weights, g.ints(at)], { axis: 1 })]),
  );
  return parts.reduce((sum, part) => g.op('Add', [sum, part]));
});

const SIZE = { batchSize: 2, sequenceLength: 4 };
/** Eight tokens of two kinds: some expert gets none. */
const TOKENS = Int32Array.of(3, 9, 3, 3, 9, 3, 9, 3);

async function gradientsOf(ffn: Part) {
  const { model, analysed } = await loadTinyLlama(buildDecoder({ ffn }));
  const wanted = analysed.detected.layout.modules.map(({ output }) => output.input);
  const differentiated = await differentiateModel({ model, analysed, wanted, ...SIZE });
  const session = await testEngine.load(differentiated.bytes);
  const tokens: Tensor = { type: 'int64', dims: [2, 4], data: BigInt64Array.from(TOKENS, BigInt) };
  const feeds = { ...prefillFeeds(analysed.inputs, SIZE, TOKENS), [differentiated.tokens]: tokens };
  const results = await session.run(feeds);
  await session.release();
  const read = (name: string) => Array.from(results[name]!.data as Float32Array);
  return {
    loss: read(differentiated.loss),
    gradients: wanted.map((name) => read(differentiated.gradients.get(name)!)),
  };
}

it('gives experts with data-dependent token counts the gradients of computing all', async () => {
  const [sparse, whole] = [await gradientsOf(routed()), await gradientsOf(dense())];
  expect(sparse.loss[0]).toBeCloseTo(whole.loss[0]!, 5);
  expect(sparse.gradients).toHaveLength(2);
  sparse.gradients.forEach((gradient, at) => {
    const largest = Math.max(...whole.gradients[at]!.map(Math.abs));
    const gaps = gradient.map((value, place) => Math.abs(value - whole.gradients[at]![place]!));
    expect(largest).toBeGreaterThan(0);
    expect(Math.max(...gaps) / largest).toBeLessThan(1e-5);
  });
});

it('prunes only the attention by the default method', async () => {
  const windows = someWindows(2, 8).map((window) => window.map((token) => token % VOCABULARY));
  const loaded = await loadTinyLlama(buildDecoder({ ffn: routed() }));
  const { modules, remarks } = await pruneLoaded(loaded, { sparsity: 0.5 }, { windows });
  expect(modules.map(({ module, keep }) => [module.kind, keep.length])).toEqual([
    ['attention', 2],
    ['attention', 2],
  ]);
  expect(remarks).toEqual([
    expect.stringMatching(
      /^sparsity counts .* attention alone \(experts stay\): 50\.0 % of it is \d\.\d % of the model, about 4 of 8 heads$/,
    ),
    expect.stringMatching(/^blocks 0-1 experts: stays as it is.*routes tokens to experts/),
  ]);
});

it('refuses an operator that reads a data-dependent size', async () => {
  const refusing = gradientsOf(routed((g, x) => g.op('Softmax', [x], { axis: -1 })));
  await expect(refusing).rejects.toThrow(UnsupportedModelError);
  await expect(refusing).rejects.toThrow(/Softmax "node\/Softmax.*a size that it reads depends on the data/);
});
