import { toBinary } from '@bufbuild/protobuf';
import { ModelProtoSchema } from 'onnx-buf';
import type { PrunableModule } from '../src/architecture/layout.js';
import { OptionError, UnsupportedModelError } from '../src/errors.js';
import { makeFloatInitializer } from '../src/onnx/build.js';
import type { OnnxModel } from '../src/onnx/onnx-model.js';
import { type PruneOptions, resolveOptions } from '../src/options.js';
import { recipeModule } from '../src/pipeline/write-recipe.js';
import { selectModules, withoutExperts } from '../src/prune/select-modules.js';
import { applyChange, cutModel } from '../src/removal/apply-change.js';
import { describeModel } from '../src/report/describe-model.js';
import { parseChange } from '../src/report/parse-recipe.js';
import type { Recipe } from '../src/report/recipe-schema.js';
import { checkPruning } from './support/check-pruned.js';
import {
  bestGroup,
  bestOfSoftmax,
  branches,
  CHOSEN,
  EXPERTS,
  gathered,
  mixture,
  packedMixture,
  plainRouter,
  type Router,
  sigmoidRouter,
  softmaxOfBest,
} from './support/mixtures.js';
import { buildDecoder, HIDDEN, NEURONS, type Part, VOCABULARY, withSharedExpert } from './support/small-decoder.js';
import { bytesOf, type Loaded, loadTinyLlama, pruneLoaded, runModel } from './support/tiny-llama.js';

const load = async (ffn: Part): Promise<Loaded> => loadTinyLlama(buildDecoder({ ffn }));

const expertsOf = ({ analysed }: Loaded) => analysed.detected.layout.modules.filter(({ kind }) => kind === 'experts');

const FORMS: Readonly<Record<string, Part>> = {
  'weights normalised over the chosen experts': mixture(plainRouter),
  'weights normalised over all experts': mixture(
    plainRouter,
    { normalize_routing_weights: 0, activation_type: 'silu', swiglu_fusion: 0 },
    1,
  ),
  'sigmoids with a bias, and a shared expert': withSharedExpert(mixture(sigmoidRouter)),
  'packed weights': packedMixture,
  'a softmax before the operator': mixture((g, x) => g.op('Log', [g.op('Softmax', [plainRouter(g, x)], { axis: -1 })])),
  'a router that is computed in float16': mixture((g, x) => {
    const [tokens, weight] = [g.op('Reshape', [x, g.ints(-1, HIDDEN)]), g.weight([HIDDEN, EXPERTS], 0.8)];
    const [a, b] = [tokens, weight].map((value) => g.op('Cast', [value], { to: 10 })) as [string, string];
    return g.op('Cast', [g.op('MatMul', [a, b])], { to: 1 });
  }),
  'a mask of experts in another type than float': mixture((g, x) => {
    const mask = g.op('Cast', [g.codes([EXPERTS])], { to: 9 });
    return g.op('Where', [mask, plainRouter(g, x), g.scalar(-4)]);
  }),
  'groups of experts before the operator': mixture((g, x) => {
    const apart = g.op('Reshape', [plainRouter(g, x), g.ints(-1, 2, EXPERTS / 2)]);
    const best = g.op('ReduceMax', [apart], { axes: [-1], keepdims: 1 });
    return g.op('Reshape', [g.op('Sub', [apart, best]), g.ints(-1, EXPERTS)]);
  }),
  'gathered weights, softmax over all experts': gathered(bestOfSoftmax),
  'gathered weights, softmax over the chosen experts, and a shared expert': withSharedExpert(
    gathered(softmaxOfBest, 'Gather'),
  ),
  'gathered weights, the best of two groups': gathered(bestGroup(2)),
  'gathered weights, one group': gathered(bestGroup(1)),
  'separate nodes for each expert': branches(),
};

it.each(Object.entries(FORMS))(
  'removes experts and neurons inside them, and keeps the bytes of the others: %s',
  async (name, ffn) => {
    const loaded = await load(ffn);
    expect(expertsOf(loaded).map(({ unitCount, expertsPerToken }) => [unitCount, expertsPerToken])).toEqual([
      [EXPERTS, CHOSEN],
      [EXPERTS, CHOSEN],
    ]);
    // Entire experts meet the fixed sparsity; in the other block neurons are removed too.
    const options = { sparsity: 0.35, blockSparsity: { 0: { experts: 1 / 3 } } };
    const { outcome, maskedGap, cacheGap } = await checkPruning(loaded, options, VOCABULARY);
    expect(maskedGap).toBeLessThan(1e-5);
    expect(cacheGap).toBeLessThan(1e-5);
    const applied = applyChange(loaded.model, loaded.analysed, outcome);
    expect(toBinary(ModelProtoSchema, applied.proto)).toEqual(toBinary(ModelProtoSchema, outcome.model.proto));
    const cuts = outcome.modules.filter(({ module }) => module.kind === 'experts');
    expect(cuts.map(({ module }) => module.block)).toEqual([0, 1]);
    expect(cuts[0]!.keep).toHaveLength(4);
    expect(cuts[0]!.neurons).toBeUndefined();
    const [, inner] = cuts.map(({ module }) => module.neurons);
    if (name === 'separate nodes for each expert')
      expect(outcome.remarks).toContain(
        'blocks 0-1 experts: neurons inside them stay: each expert has nodes of its own',
      );
    else expect(cuts[1]!.neurons!.length / cuts[1]!.keep.length).toBeLessThan(inner!.unitCount);
    for (const { module, keep, neurons } of cuts) {
      expect(keep.length).toBeGreaterThanOrEqual(module.leastExperts!);
      const groups = new Map<number, number>();
      for (const expert of keep) {
        const group = module.groupOfUnit?.[expert] ?? 0;
        groups.set(group, (groups.get(group) ?? 0) + 1);
      }
      expect(new Set(groups.values()).size).toBe(1);
      expect(groups.size).toBe(module.groupCount ?? 1);
      if (module.unfusedExperts !== undefined && module.unfusedExperts.outputs.length > 1) continue;
      const { labels } = loaded.analysed.detected.traces[module.index]!.neurons!;
      const names = [...labels.keys()].filter((weight) => loaded.model.weights.has(weight));
      expect(names).toContain(module.output.weight);
      for (const weight of names.filter((found) => !outcome.changed.has(found))) {
        const whole = loaded.model.weights.get(weight)!;
        const { axis, unitIds } = labels.get(weight)!;
        const rowCount = whole.dims.slice(1, axis).reduce((product, dim) => product * dim, 1);
        const itemBytes = whole.byteLength / (EXPERTS * rowCount * unitIds.length);
        const width = neurons === undefined ? 0 : neurons.length / keep.length;
        const before = await whole.read();
        const items = [...keep].flatMap((expert, at) => {
          const units = neurons && new Set(neurons.subarray(at * width, (at + 1) * width));
          return Array.from({ length: rowCount * unitIds.length }, (_, place) => place)
            .filter((place) => units?.has(unitIds[place % unitIds.length]!) ?? true)
            .map((place) => (expert * rowCount * unitIds.length + place) * itemBytes)
            .map((start) => before.subarray(start, start + itemBytes));
        });
        const after = await outcome.model.weights.get(weight)!.read();
        expect(Buffer.compare(after, Buffer.concat(items))).toBe(0);
      }
      // Packed weights are not repaired.
      if (name === 'packed weights') expect(outcome.changed.has(module.output.weight)).toBe(false);
    }
  },
);

it('removes only experts with modules "experts", and remarks on those with few tokens', async () => {
  const loaded = await load(withSharedExpert(mixture(plainRouter)));
  const options = { sparsity: 0.5, modules: 'experts', method: 'flap' } as const;
  const { outcome, maskedGap } = await checkPruning(loaded, options, VOCABULARY);
  expect(maskedGap).toBeLessThan(1e-5);
  expect(outcome.modules.map(({ module, keep }) => [module.kind, keep.length])).toEqual([
    ['experts', EXPERTS / 2],
    ['experts', EXPERTS / 2],
  ]);
  const remark = outcome.remarks.find((found) => found.startsWith('block 0 experts: '))!;
  const [, ...counts] = /^block 0 experts: (\d) of 6 experts got fewer than 32 calibration tokens/.exec(remark) ?? [];
  expect(counts).toHaveLength(1);
  const few = [...remark.matchAll(/expert \d: (\d+)/g)].map(([, count]) => Number(count));
  expect(few).toHaveLength(Number(counts[0]));
  const least = Math.min(...few.filter((count) => count > 0));
  const [, windows, had] = /about (\d+) windows like these (\d+) would route that many to each/.exec(remark) ?? [];
  expect(Number(windows)).toBe(Math.ceil((32 * Number(had)) / least));
});

it('remarks on experts without tokens, and gives their removal a cost', async () => {
  const bias = [-60, 0, 0, 0, 0, 0];
  const router: Router = (g, x) =>
    g.op('Reshape', [
      g.op('Add', [g.op('MatMul', [x, g.weight([HIDDEN, EXPERTS], 0.8)]), g.floats([EXPERTS], bias)]),
      g.ints(-1, EXPERTS),
    ]);
  const options = { sparsity: 0, experts: 4, method: 'flap' } as const;
  const { dense, remarks } = await pruneLoaded(await load(mixture(router)), options, { windows: WINDOWS });
  const remark = remarks.find((found) => found.startsWith('block 0 experts: '));
  expect(remark).toMatch(/ \(expert 0: 0[,)].*; (they|those without a token) need text of another kind$/);
  for (const [module, { costs }] of dense.orders!) if (module.kind === 'experts') expect(costs[0]).toBeGreaterThan(0);
});

it('describes experts with their number, neurons, parameters and bytes', async () => {
  const { model, analysed } = await load(mixture(plainRouter));
  const [, experts] = describeModel('model', model, analysed).blocks[0]!.modules;
  const parameters = EXPERTS * (3 * NEURONS * HIDDEN + 2 * NEURONS + HIDDEN + HIDDEN + 1);
  expect(experts).toEqual({
    ...{
      kind: 'experts',
      description: 'mixture of experts, 2 of 6 a token',
      experts: EXPERTS,
      expertsPerToken: CHOSEN,
    },
    parameters,
    neurons: NEURONS,
    bytes: 4 * parameters,
  });
});

it.each([
  ['one operator', mixture(plainRouter)],
  ['gathered weights', gathered(bestOfSoftmax)],
  ['separate nodes', branches()],
])('describes experts with all their bytes: %s', async (_, form) => {
  const { model, analysed } = await load(form);
  const [, experts] = describeModel('model', model, analysed).blocks[0]!.modules;
  expect(experts!.bytes).toBe(4 * experts!.parameters);
});

it('removes experts, and neurons inside them, in two shots', async () => {
  const options = { sparsity: 0.5, modules: 'experts', method: 'flap', shots: 2 } as const;
  const loaded = await load(mixture(plainRouter));
  const { outcome, maskedGap } = await checkPruning(loaded, options, VOCABULARY);
  expect(maskedGap).toBeLessThan(1e-5);
  expect(outcome.modules.reduce((sum, { keep }) => sum + keep.length, 0)).toBe(6);
  const both = { ...options, sparsity: 0.7, allocation: 'global', minimumWidth: 0.5 } as const;
  const inside = await checkPruning(loaded, both, VOCABULARY);
  expect(inside.maskedGap).toBeLessThan(1e-5);
  const [first] = inside.outcome.modules;
  expect(first!.keep.length).toBeLessThan(EXPERTS);
  expect(first!.neurons!.length / first!.keep.length).toBeLessThan(NEURONS);
  const applied = applyChange(loaded.model, loaded.analysed, inside.outcome);
  expect(toBinary(ModelProtoSchema, applied.proto)).toEqual(toBinary(ModelProtoSchema, inside.outcome.model.proto));
});

const WINDOWS = Array.from({ length: 8 }, (_, window) =>
  Int32Array.from({ length: 16 }, (_, at) => (window * 17 + at * at * 7 + at * 3) % VOCABULARY),
);

it('repairs the remaining experts, which brings the logits closer to the dense model', async () => {
  const loaded = await load(mixture(plainRouter));
  const windows = WINDOWS;
  const options = { sparsity: 0.4, modules: 'experts', method: 'obc', allocation: 'global' } as const;
  const outcome = await pruneLoaded(loaded, options, { windows });
  const second = outcome.modules.map(({ module }) => module.output.weight);
  expect([...outcome.changed.keys()]).toEqual(second);
  for (const { error } of outcome.modules) {
    expect(error!.basis).toBe('tokens');
    expect(error!.after).toBeLessThan(error!.before);
  }
  const plain = cutModel(loaded.model, loaded.analysed, { ...outcome, changed: new Map() });
  const logitsOf = async (model: OnnxModel) => (await runModel(model, windows)).logits!.data as Float32Array;
  const dense = await logitsOf(loaded.model);
  const distance = async (model: OnnxModel) =>
    (await logitsOf(model)).reduce((sum, value, at) => sum + (value - dense[at]!) ** 2, 0);
  expect(await distance(outcome.model)).toBeLessThan(0.9 * (await distance(plain)));
});

describe('allExperts', () => {
  it.each<[string, Part]>([
    ['in one operator', mixture(plainRouter)],
    ['with packed weights', packedMixture],
    ['with gathered weights', gathered(bestOfSoftmax)],
  ])('removes other neurons, and equals the masked original: %s', async (name, ffn) => {
    const loaded = await load(ffn);
    const options = { sparsity: 0.4, modules: 'experts', method: 'obc', allocation: 'global' } as const;
    const plain = await pruneLoaded(loaded, options, { windows: WINDOWS });
    const { outcome, maskedGap } = await checkPruning(loaded, { ...options, allExperts: true }, VOCABULARY);
    expect(maskedGap).toBeLessThan(1e-5);
    const all = await pruneLoaded(loaded, { ...options, allExperts: true }, { windows: WINDOWS });
    const neuronsOf = ({ modules }: typeof plain) => modules.map(({ neurons }) => neurons);
    expect(neuronsOf(all)).not.toEqual(neuronsOf(plain));
    expect(outcome.remarks.filter((remark) => remark.includes('allExperts'))).toEqual([]);
    if (name === 'with packed weights') return;
    for (const { error } of all.modules) expect(error!.after).toBeLessThan(error!.before);
  });

  it.each<[string, Part, Partial<PruneOptions>, string]>([
    ['separate nodes', branches(), {}, 'each expert has nodes of its own'],
    [
      'no repair',
      mixture(plainRouter),
      { method: 'flap' },
      'only entire experts are removed, and method flap repairs none',
    ],
    [
      'packed weights',
      packedMixture,
      { method: 'obc' },
      'only entire experts are removed, and packed weights are not repaired',
    ],
  ])('is remarked on where it has no effect: %s', async (_, ffn, more, reason) => {
    const { analysed } = await load(ffn);
    const options = resolveOptions({ sparsity: 0.3, minimumWidth: 1, allExperts: true, ...more });
    const { remarks } = selectModules({ analysed, options });
    expect(remarks).toContain(`blocks 0-1 experts: allExperts has no effect: ${reason}`);
  });

  it('is refused without experts, and with a method that reads no tokens', async () => {
    const none = await loadTinyLlama(buildDecoder());
    const select = ({ analysed }: Loaded, more: Partial<PruneOptions>) =>
      selectModules({ analysed, options: resolveOptions({ sparsity: 0.3, allExperts: true, ...more }) });
    expect(() => select(none, {})).toThrow(/^allExperts has no effect: the model has no mixture of experts/);
    const loaded = await load(mixture(plainRouter));
    expect(() => select(loaded, { method: 'magnitude' })).toThrow(/^allExperts has no effect with method magnitude/);
  });
});

describe('neurons inside experts', () => {
  it('are removed in multiples until the sparsity is met, but not with minimumWidth 1', async () => {
    const loaded = await load(mixture(plainRouter));
    const options = { sparsity: 0.4, modules: 'experts', method: 'flap', allocation: 'global' } as const;
    const { outcome } = await checkPruning(loaded, { ...options, widthMultiple: 8 }, VOCABULARY);
    const [whole, neuron] = [3 * NEURONS * HIDDEN + 2 * NEURONS + HIDDEN + HIDDEN + 1, 3 * HIDDEN + 2];
    const left = outcome.modules.reduce((sum, { keep, neurons }) => {
      const width = neurons === undefined ? NEURONS : neurons.length / keep.length;
      expect(width % 8).toBe(0);
      return sum + keep.length * (whole - (NEURONS - width) * neuron);
    }, 0);
    // Steps of eight neurons of six experts.
    expect(Math.abs(left / (2 * EXPERTS * whole) - 0.6)).toBeLessThan((EXPERTS * 8 * neuron) / (2 * EXPERTS * whole));
    expect(outcome.modules.some(({ neurons }) => neurons !== undefined)).toBe(true);
    const alone = await checkPruning(loaded, { ...options, minimumWidth: 1 }, VOCABULARY);
    expect(alone.outcome.modules.every(({ neurons }) => neurons === undefined)).toBe(true);
  });

  it('are read from a recipe, which is refused if it does not fit the model', async () => {
    const { model, analysed } = await load(gathered(softmaxOfBest));
    const [{ index, block, kind }] = expertsOf({ model, analysed }) as [PrunableModule];
    const parse = (neurons: unknown, module = { index, block, kind }) => {
      const modules = [{ ...module, keep: [1, 3], neurons }];
      const files = { kind: 'recipe' as const, json: 'recipe.json', tensors: 'recipe.safetensors' };
      return parseChange({ modules } as unknown as Recipe, { model, analysed, tensors: new Map(), files });
    };
    // Of 24 neurons: the first and the sixth, the fourth and the last.
    const [cut] = parse(['840000', '100001']).modules;
    expect(cut!.neurons).toEqual(Int32Array.of(0, 5, 3, 23));
    expect(recipeModule(cut!)).toEqual({ index, block, kind, keep: [1, 3], neurons: ['840000', '100001'] });
    const wrong = [['840000', '100000'], ['840000'], ['84', '10'], ['000000', '000000'], ['84000G', '100001'], 'all'];
    for (const neurons of [...wrong, [0, 5, 3, 23]])
      expect(() => parse(neurons)).toThrow(
        /^recipe\.json: modules\[0\] does not have 2 rows of hexadecimal digits for 24 units of neurons, with an equal/,
      );
    const [attention] = analysed.detected.layout.modules as [PrunableModule];
    expect(() => parse(['c00000'], attention)).toThrow(
      /has neurons of experts, and those of the model cannot be removed/,
    );
  });

  it('are not pruned, with the reason, if both linear layers have one bias', async () => {
    const loaded = await load(({ g }, x) => {
      const bias = g.floats([EXPERTS, HIDDEN], new Array(EXPERTS * HIDDEN).fill(0));
      const weights = [g.weight([EXPERTS, HIDDEN, HIDDEN], 0.3), bias, g.weight([EXPERTS, HIDDEN, HIDDEN], 0.3), bias];
      const attributes = { k: CHOSEN, normalize_routing_weights: 1, activation_type: 'silu' };
      return g.op('MoE', [x, plainRouter(g, x), ...weights], attributes, 'com.microsoft');
    });
    const { outcome, maskedGap } = await checkPruning(loaded, { sparsity: 0.3, modules: 'experts' }, VOCABULARY);
    expect(maskedGap).toBeLessThan(1e-5);
    expect(outcome.modules.map(({ neurons }) => neurons)).toEqual([undefined, undefined]);
    expect(outcome.remarks).toContainEqual(
      expect.stringMatching(/^block 0 experts: neurons inside them stay: both linear layers read "\S+"$/),
    );
  });

  it('are not pruned, with the reason, if their activation is unknown', async () => {
    const { analysed } = await load(mixture(plainRouter, { activation_type: 'gelu', swiglu_fusion: 0 }, 1));
    expect(expertsOf({ analysed } as Loaded).map(({ neuronsObstacle }) => neuronsObstacle)).toEqual([
      'its activation is "gelu"',
      'its activation is "gelu"',
    ]);
    const { remarks } = selectModules({ analysed, options: resolveOptions({ sparsity: 0.3 }) });
    expect(remarks).toContain('blocks 0-1 experts: neurons inside them stay: its activation is "gelu"');
  });
});

it('refuses modules "ffn" without an FFN, and suggests "experts"', async () => {
  const { analysed } = await load(mixture(plainRouter));
  const options = resolveOptions({ sparsity: 0.3, method: 'flap', modules: 'ffn' });
  expect(() => selectModules({ analysed, options })).toThrow(
    /^the model has no ffn; choose modules "attention", or choose modules "experts", or name no modules/,
  );
});

it('refuses a sparsity that leaves fewer experts than each token is routed to', async () => {
  const loaded = await load(mixture(plainRouter));
  const pruning = checkPruning(loaded, { sparsity: 0.9, modules: 'experts', method: 'flap' }, VOCABULARY);
  await expect(pruning).rejects.toThrow(
    expect.objectContaining({ name: 'OptionError', message: expect.stringMatching(/at most 66\.66 % can be removed/) }),
  );
});

describe('the smallest number of experts', () => {
  it.each([
    ['the best of a softmax', gathered(bestOfSoftmax), 2],
    ['the best group, by two of its experts', gathered(bestGroup(2)), 4],
    ['the best group, by one of its experts', gathered(bestGroup(2, { judged: 1, count: 1 }), 'GatherND', 1), 2],
    ['one group', gathered(bestGroup(1)), 2],
  ] as const)('is detected again in the result, of which only neurons can be removed: %s', async (_, ffn, least) => {
    const loaded = await load(ffn);
    const options = { sparsity: 0, experts: least, method: 'flap' } as const;
    const { outcome } = await checkPruning(loaded, options, VOCABULARY);
    const again = await loadTinyLlama(await bytesOf(outcome.model));
    const found = expertsOf(again);
    expect(found.map(({ unitCount, leastExperts }) => [unitCount, leastExperts])).toEqual([
      [least, least],
      [least, least],
    ]);
    expect(found.map(({ groupCount }) => groupCount)).toEqual(expertsOf(loaded).map(({ groupCount }) => groupCount));
    // Only neurons can be removed now.
    const more = await checkPruning(again, { sparsity: 0.2, modules: 'experts', allocation: 'global' }, VOCABULARY);
    expect(more.maskedGap).toBeLessThan(1e-5);
    for (const { keep, neurons } of more.outcome.modules) {
      expect(keep).toHaveLength(least);
      expect(neurons!.length).toBeLessThan(least * NEURONS);
    }
    const fewer = resolveOptions({ sparsity: 0, method: 'flap', experts: least - 1 });
    expect(() => selectModules({ analysed: again.analysed, options: fewer })).toThrow(
      new RegExp(`^experts is ${least - 1}; the router of block 0 chooses among ${least} experts at least`),
    );
  });
});

describe('the option experts', () => {
  it('sets the remaining experts of every mixture, whatever else is pruned', async () => {
    const loaded = await load(withSharedExpert(gathered(softmaxOfBest)));
    const { outcome } = await checkPruning(loaded, { sparsity: 0, experts: 4, method: 'flap' }, VOCABULARY);
    expect(outcome.modules.map(({ module, keep }) => [module.kind, keep.length])).toEqual([
      ['experts', 4],
      ['experts', 4],
    ]);
    const more = await checkPruning(loaded, { sparsity: 0.25, experts: 5 }, VOCABULARY);
    const cuts = more.outcome.modules.filter(({ module }) => module.kind === 'experts');
    expect(cuts.map(({ keep }) => keep.length)).toEqual([5, 5]);
    expect(more.outcome.modules.some(({ module }) => module.kind !== 'experts')).toBe(true);
  });

  it.each([
    [7, gathered(softmaxOfBest), /^experts is 7; block 0 has 6 experts; give at most that number/],
    [1, gathered(softmaxOfBest), /^experts is 1; the router of block 0 chooses among 2 experts at least/],
    [5, gathered(bestGroup(2)), /^experts is 5; block 0 has 2 groups of experts.*give a multiple of 2/],
    [3, undefined, /^experts has no effect: the model has no mixture of experts that can be pruned/],
  ])('is refused if a mixture cannot keep that number: %d', async (experts, ffn, message) => {
    const { analysed } = await loadTinyLlama(buildDecoder(ffn && { ffn }));
    const options = resolveOptions({ sparsity: 0.2, method: 'flap', experts });
    expect(() => selectModules({ analysed, options })).toThrow(OptionError);
    expect(() => selectModules({ analysed, options })).toThrow(message);
  });

  it('is refused with methods that read no tokens', async () => {
    const { analysed } = await load(gathered(softmaxOfBest));
    const options = resolveOptions({ sparsity: 0.2, method: 'magnitude', experts: 4 });
    expect(() => selectModules({ analysed, options })).toThrow(/^experts has no effect with method magnitude/);
  });
});

it('does not prune experts with a method that reads no tokens', async () => {
  const { analysed } = await load(mixture(plainRouter));
  const options = resolveOptions({ sparsity: 0.3, method: 'magnitude' });
  const { modules, remarks } = selectModules({ analysed, options });
  expect(modules.map(({ kind }) => kind)).toEqual(['attention', 'attention']);
  expect(remarks).toEqual(['experts stay: method magnitude reads no token, which their scores need']);
  const whole = resolveOptions({ sparsity: 0, method: 'magnitude' });
  expect(selectModules({ analysed, options: whole }).remarks).toEqual([]);
});

it('does not prune experts that the statistics lack', async () => {
  const { analysed } = await load(mixture(plainRouter));
  const selected = selectModules({ analysed, options: resolveOptions({ sparsity: 0.3, method: 'flap' }) });
  const { modules, remarks } = withoutExperts(selected, 'statistics hold nothing of them');
  expect(modules.map(({ kind }) => kind)).toEqual(['attention', 'attention']);
  expect(remarks).toEqual([...selected.remarks, 'experts stay: statistics hold nothing of them']);
  const alone = selectModules({ analysed, options: resolveOptions({ sparsity: 0.3, modules: 'experts' }) });
  expect(() => withoutExperts(alone, 'statistics hold nothing of them')).toThrow(
    /^experts stay: statistics hold nothing of them; no other modules were asked for/,
  );
});

const REFUSED: Readonly<Record<string, { readonly ffn: Part; readonly reason: RegExp }>> = {
  'a router that is not a matrix product alone': {
    ffn: mixture((g, x) => {
      const own = g.op('Slice', [x, g.ints(0), g.ints(EXPERTS), g.ints(-1)]);
      return g.op('Add', [g.op('Reshape', [own, g.ints(-1, EXPERTS)]), plainRouter(g, x)]);
    }),
    reason: /^the router is not a product with a weight: experts cannot be followed through LayerNormalization$/,
  },
  'more scores than experts': {
    ffn: mixture((g, x) => {
      const logits = g.op('MatMul', [x, g.weight([HIDDEN, EXPERTS + 2])]);
      return g.op('Reshape', [g.op('Slice', [logits, g.ints(0), g.ints(EXPERTS), g.ints(-1)]), g.ints(-1, EXPERTS)]);
    }),
    reason: /^it outputs 8 scores, expected one for each of 6 experts$/,
  },
  'a router with a norm': {
    ffn: mixture((g, x) => g.op('LpNormalization', [plainRouter(g, x)], { axis: -1, p: 2 })),
    reason: /experts cannot be followed through LpNormalization$/,
  },
  'a bias in a Constant node': {
    ffn: mixture((g, x) => {
      const tensor = makeFloatInitializer('', [EXPERTS], [0.3, 0, -0.2, 0.1, 0, -0.1]);
      return g.op('Add', [plainRouter(g, x), g.op('Constant', [], { value: { tensor } })]);
    }),
    reason: /^"Constant_\S+" has a number for each expert and is not a plain weight$/,
  },
  'a sum over the scores of all experts': {
    ffn: gathered((g, x) => {
      const [chosen, shares] = softmaxOfBest(g, x);
      return [chosen, g.op('Mul', [shares, g.op('ReduceSum', [plainRouter(g, x), g.ints(-1)], { keepdims: 1 })])];
    }),
    reason: /experts cannot be followed through ReduceSum$/,
  },
  'experts without consecutive numbers': {
    ffn: branches([0, 1, 2, 3, 4, 6]),
    reason: /^its experts are not numbered from 0 to 5$/,
  },
};

it.each(Object.entries(REFUSED))('does not recognise experts, and gives the reason: %s', async (_, { ffn, reason }) => {
  const { layout } = (await load(ffn)).analysed.detected;
  expect(layout.modules.map(({ kind }) => kind)).toEqual(['attention', 'attention']);
  expect(layout.unrecognised.map(({ kind }) => kind)).toEqual(['experts', 'experts']);
  expect(layout.unrecognised[0]!.reason).toMatch(reason);
});

it('refuses modules "experts" with the reason if experts are not recognised', async () => {
  const { analysed } = await load(REFUSED['a router with a norm']!.ffn);
  const options = resolveOptions({ sparsity: 0.3, modules: 'experts' });
  expect(() => selectModules({ analysed, options })).toThrow(UnsupportedModelError);
  expect(() => selectModules({ analysed, options })).toThrow(
    /blocks 0-1 experts: LpNormalization .*: the router is not a product with a weight: experts cannot be followed through LpNormalization/,
  );
});

/** Routes no token to the third expert. */
const routerWithoutThird: Router = (g, x) =>
  g.op('Add', [
    plainRouter(g, x),
    g.floats(
      [EXPERTS],
      Array.from({ length: EXPERTS }, (_, expert) => (expert === THIRD ? -100 : 0)),
    ),
  ]);
const THIRD = 2;

it.each([
  [{ method: 'obc', allocation: 'global', minimumWidth: 1 }],
  [{ method: 'flap', expertScore: 'reap' }],
  [{ method: 'flap', expertScore: 'msan' }],
] as const)('remarks on experts without tokens, and removes them first: %o', async (options) => {
  const loaded = await load(mixture(routerWithoutThird));
  const { outcome, maskedGap } = await checkPruning(
    loaded,
    { sparsity: 0.25, modules: 'experts', ...options },
    VOCABULARY,
  );
  expect(maskedGap).toBeLessThan(1e-5);
  expect(outcome.remarks).toContainEqual(expect.stringMatching(/^block 0 experts: .*expert 2: 0[,)]/));
  const cuts = outcome.modules.filter(({ keep }) => keep.length < EXPERTS);
  expect(cuts.length).toBeGreaterThan(0);
  for (const { keep } of cuts) expect([...keep]).not.toContain(THIRD);
});
