import type { PruneOptions } from '../src/options.js';
import { checkPruning } from './support/check-pruned.js';
import type { GraphBuilder } from './support/graph-builder.js';
import {
  buildDecoder,
  type DecoderShape,
  fusedExperts,
  HIDDEN,
  NEURONS,
  type Part,
  VOCABULARY,
  withSharedExpert,
} from './support/small-decoder.js';
import { type Loaded, loadTinyLlama } from './support/tiny-llama.js';

const [EXPERTS, CHOSEN] = [3, 2];

const expert = (g: GraphBuilder, x: string): string =>
  g.op('MatMul', [g.op('Relu', [g.op('MatMul', [x, g.weight([HIDDEN, NEURONS])])]), g.weight([NEURONS, HIDDEN])]);

function route(g: GraphBuilder, x: string): [shares: string, chosen: string] {
  const scores = g.op('Softmax', [g.op('MatMul', [x, g.weight([HIDDEN, EXPERTS], 2)])], { axis: -1 });
  return g.ops('TopK', [scores, g.ints(CHOSEN)], 2, { axis: -1 }) as [string, string];
}

/** Every expert reads every token, and its output is multiplied by 0 for tokens not routed to it, as Mobius exports it. */
const unrolledExperts: Part = ({ g }, x) => {
  const [shares, chosen] = route(g, x);
  return Array.from({ length: EXPERTS }, (_, at) => {
    const isChosen = g.op('Cast', [g.op('Equal', [chosen, g.intScalar(at)])], { to: 1 });
    const share = g.op('ReduceSum', [g.op('Mul', [shares, isChosen]), g.ints(-1)], { keepdims: 1 });
    return g.op('Mul', [expert(g, x), share]);
  }).reduce((sum, part) => g.op('Add', [sum, part]));
};

/** Each expert gathers its own tokens, and its output is scattered to them. Sizes depend on the data. */
const scatteredExperts: Part = ({ g }, hidden) => {
  const x = g.op('Reshape', [hidden, g.ints(-1, HIDDEN)]);
  const [shares, chosen] = route(g, x);
  const zeros = g.op('ConstantOfShape', [g.op('Shape', [g.op('Mul', [x, g.scalar(0)])])]);
  let sum = zeros;
  for (let at = 0; at < EXPERTS; at += 1) {
    const isChosen = g.op('Cast', [g.op('Equal', [chosen, g.intScalar(at)])], { to: 1 });
    const share = g.op('ReduceSum', [g.op('Mul', [shares, isChosen]), g.ints(-1)], { keepdims: 1 });
    const places = g.op('Transpose', [g.op('NonZero', [g.op('Greater', [share, g.scalar(0)])])], { perm: [1, 0] });
    const token = g.op('Slice', [places, g.ints(0), g.ints(1), g.ints(1)]);
    const made = g.op('Mul', [expert(g, g.op('GatherND', [x, token])), g.op('GatherND', [share, token])]);
    const index = g.op('Expand', [token, g.op('Shape', [made])]);
    sum = g.op('Add', [sum, g.op('ScatterElements', [zeros, index, made], { axis: 0 })]);
  }
  return g.op('Reshape', [sum, g.op('Shape', [hidden])]);
};

/** An RMS norm in primitives behind a part, as in AFMoE. */
const normed =
  (part: Part, scaleFirst = false): Part =>
  (site, x) => {
    const { g } = site;
    const y = part(site, x);
    const mean = g.op('ReduceMean', [g.op('Pow', [y, g.scalar(2)])], { axes: [-1], keepdims: 1 });
    const scale = g.op('Reciprocal', [g.op('Sqrt', [g.op('Add', [mean, g.scalar(1e-5)])])]);
    return g.op('Mul', [g.weight([HIDDEN], 0.2, 1), g.op('Mul', scaleFirst ? [scale, y] : [y, scale])]);
  };

const FORMS: Readonly<Record<string, DecoderShape>> = {
  'one operator': { ffn: withSharedExpert(fusedExperts) },
  'all experts on all tokens': { ffn: withSharedExpert(unrolledExperts) },
  'one operator, and a norm of the sum': { ffn: normed(withSharedExpert(fusedExperts)) },
  'all experts on all tokens, and a norm of the sum': { ffn: normed(withSharedExpert(unrolledExperts), true) },
  'experts on their own tokens': { ffn: withSharedExpert(scatteredExperts) },
};

/** Excludes the experts that could be pruned. */
const withoutExperts = ({ analysed: { detected } }: Loaded): NonNullable<PruneOptions['blockSparsity']> =>
  Object.fromEntries(
    detected.layout.modules.flatMap(({ block, kind }) => (kind === 'experts' ? [[block, { experts: 0 }]] : [])),
  );

describe.each(Object.entries(FORMS))('a shared expert and a mixture of experts: %s', (_, shape) => {
  it('are an FFN and experts', async () => {
    const { layout } = (await loadTinyLlama(buildDecoder(shape))).analysed.detected;
    expect(layout.blockCount).toBe(2);
    const others = layout.modules.filter(({ kind }) => kind !== 'experts');
    expect(others.map(({ block, description, unitCount }) => [block, description, unitCount])).toEqual([
      [0, 'multi-head attention', 4],
      [0, 'gated ffn', NEURONS],
      [1, 'multi-head attention', 4],
      [1, 'gated ffn', NEURONS],
    ]);
    const experts = [...layout.modules, ...layout.unrecognised].filter(({ kind }) => kind === 'experts');
    expect(experts.map(({ block }) => block)).toEqual([0, 1]);
  });

  it('equal the masked original, with neurons of the shared expert removed', async () => {
    const loaded = await loadTinyLlama(buildDecoder(shape));
    const blockSparsity = withoutExperts(loaded);
    // The excluded experts count in the sparsity.
    const options: PruneOptions = { sparsity: Object.keys(blockSparsity).length === 0 ? 0.4 : 0.16, blockSparsity };
    const { outcome, maskedGap, cacheGap } = await checkPruning(loaded, options, VOCABULARY);
    expect(maskedGap).toBeLessThan(1e-5);
    expect(cacheGap).toBeLessThan(1e-5);
    const ffns = outcome.modules.filter(({ module }) => module.kind === 'ffn');
    expect(ffns.map(({ keep }) => keep.length < NEURONS)).toEqual([true, true]);
    const { traces, layout } = loaded.analysed.detected;
    const own = new Set(
      traces.flatMap(({ labels }, at) => (layout.modules[at]!.kind === 'experts' ? [] : [...labels.keys()])),
    );
    const others = [...loaded.model.weights].filter(([name, { dims }]) => dims.length > 1 && !own.has(name));
    for (const [name, { dims }] of others) expect(outcome.model.weights.get(name)?.dims).toEqual(dims);
  });
});

it('prunes shared experts with modules "ffn"', async () => {
  const options: PruneOptions = { sparsity: 0.4, method: 'flap', modules: 'ffn' };
  const loaded = await loadTinyLlama(buildDecoder({ ffn: withSharedExpert(unrolledExperts) }));
  const { outcome } = await checkPruning(loaded, options, VOCABULARY);
  expect(outcome.modules.map(({ module }) => module.kind)).toEqual(['ffn', 'ffn']);
});

it('refuses a sparsity of the FFN of a block that has only experts', async () => {
  const ffn: Part = (site, x) => (site.block === 0 ? withSharedExpert(fusedExperts) : fusedExperts)(site, x);
  const options: PruneOptions = { sparsity: 0.4, method: 'flap', blockSparsity: { 1: { ffn: 0.5 } } };
  const pruning = checkPruning(await loadTinyLlama(buildDecoder({ ffn })), options, VOCABULARY);
  await expect(pruning).rejects.toThrow(/block 1 has no ffn, only attention and experts/);
});
