import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { adviceOf } from '../scripts/exporters/advice-of.js';
import { findCases } from '../scripts/exporters/try-case.js';
import { inFlags } from '../src/cli/flags.js';
import { FangPruneError } from '../src/errors.js';
import { openModelFolder } from '../src/node.js';
import { PRUNE } from '../src/options/commands.js';
import { listRows, rowsOf } from '../src/options/option.js';
import { type PruneOptions, resolveOptions } from '../src/options.js';
import { checkRun } from '../src/prune/check-run.js';
import { analyseModel } from '../src/runtime/analyse-model.js';
import { testEngine } from './support/engine.js';
import { buildSharing } from './support/sharing-decoder.js';
import {
  buildDecoder,
  fusedExperts,
  HIDDEN,
  linear,
  NEURONS,
  type Part,
  plainFfn,
  repeatHeads,
  selfAttention,
  separate,
  VOCABULARY,
} from './support/small-decoder.js';
import { type Loaded, loadTinyLlama, pruneLoaded } from './support/tiny-llama.js';

const WAYS: readonly PruneOptions[] = [
  ...[0.3, 0.5, 0.95].flatMap((sparsity) => [{ sparsity }, { sparsity, method: 'flap' } as const]),
  ...(['ffn', 'attention', 'experts'] as const).map((modules) => ({ sparsity: 0.3, modules })),
  ...(['ffn', 'attention'] as const).map((kind) => ({
    ...{ sparsity: 0.3, perBlockKvHeads: true },
    blockSparsity: { 0: { [kind]: 0.3 } },
  })),
  { sparsity: 0.3, method: 'o-fang' },
  { sparsity: 0.3, metric: 'loss' },
  { sparsity: 0.3, allocation: 'taylor' },
  { sparsity: 0.3, widthMultiple: 4096 },
  { sparsity: 0.3, method: 'flap', heal: {} },
];

/** An operator that heads cannot be followed through. */
const strangeAttention: Part = (site, x) => {
  const { g } = site;
  return linear(g, g.op('CumSum', [selfAttention()(site, x), g.intScalar(2)]), HIDDEN, HIDDEN);
};
const strangeFfn: Part = ({ g }, x) => {
  const sums = g.op('CumSum', [g.op('Relu', [linear(g, x, HIDDEN, NEURONS)]), g.intScalar(2)]);
  return linear(g, sums, NEURONS, HIDDEN);
};
/** Each token is weighed by the better of two experts, which are written out. */
const unfusedExperts: Part = ({ g }, x) => {
  const scores = g.op('Softmax', [g.op('MatMul', [x, g.weight([HIDDEN, 2])])], { axis: -1 });
  const [best] = g.ops('TopK', [scores, g.ints(1)], 2, { axis: -1 }) as [string, string];
  return g.op('Mul', [linear(g, g.op('Relu', [linear(g, x, HIDDEN, NEURONS)]), NEURONS, HIDDEN), best]);
};
/** An operator without a gradient. */
const withoutGradient: Part = ({ g }, x) =>
  linear(g, g.op('Softsign', [linear(g, x, HIDDEN, NEURONS)]), NEURONS, HIDDEN);
const inFirst =
  (first: Part, others: Part): Part =>
  (site, x) =>
    (site.block === 0 ? first : others)(site, x);

const MODELS = {
  plain: () => buildDecoder(),
  'shared keys and values': () => buildSharing(),
  'shared keys and values that stay': () => buildSharing({ reversed: true }),
  'experts in one operator': () => buildDecoder({ ffn: fusedExperts }),
  'attention that is not recognised': () => buildDecoder({ attention: strangeAttention }),
  'one attention that is not recognised': () => buildDecoder({ attention: inFirst(strangeAttention, selfAttention()) }),
  'that, and no FFN': () => buildDecoder({ attention: inFirst(strangeAttention, selfAttention()), ffn: strangeFfn }),
  'nothing that is recognised': () => buildDecoder({ attention: strangeAttention, ffn: strangeFfn }),
  'grouped-query attention alone': () =>
    buildDecoder({
      ffn: strangeFfn,
      attention: selfAttention({ project: separate(2), spread: repeatHeads(2) }),
    }),
  'no gradient of an activation': () => buildDecoder({ ffn: withoutGradient }),
  'logits of the last token': () =>
    buildDecoder({ takeLast: (g, x) => g.op('ReduceMean', [x], { axes: [1], keepdims: 1 }) }),
} as const;

/** Options that have a flag, by names that are no words of the language. */
const NAMES_OF_THE_API = new RegExp(
  listRows(rowsOf(PRUNE))
    .flatMap(({ path, row }) =>
      row.flag !== undefined && /[A-Z.]/.test(path) ? `\\b${path.replace('.', '\\.')}\\b` : [],
    )
    .join('|'),
);

/** Messages of refusals, and the options that were refused. */
function refusalsOf(loaded: Loaded): (readonly [PruneOptions, string])[] {
  return WAYS.flatMap((way) => {
    const message = refusalOf(loaded, way);
    return message === undefined ? [] : [[way, message] as const];
  });
}

function refusalOf(loaded: Loaded, way: PruneOptions): string | undefined {
  try {
    checkRun({ ...loaded, options: resolveOptions(way) });
    return undefined;
  } catch (error) {
    expect(error).toBeInstanceOf(FangPruneError);
    expect((inFlags(error, PRUNE) as Error).message).not.toMatch(NAMES_OF_THE_API);
    return (error as Error).message;
  }
}

/** What is still refused when the advice of the refusals is followed. Of a model that cannot be pruned at all there is none to follow. */
function failingAdvice(loaded: Loaded): string[] {
  const usual = refusalOf(loaded, { sparsity: 0.3 });
  if (usual !== undefined && adviceOf(usual).length === 0) return [];
  return refusalsOf(loaded).flatMap(([way, message]) => followAdvice(loaded, { way, message, sparsity: way.sparsity }));
}

interface Refusal {
  readonly way: PruneOptions;
  readonly message: string;
  readonly sparsity: PruneOptions['sparsity'];
}

/** A run whose sparsity is beyond what can go may be refused once more for that, where something else came first. */
function followAdvice(loaded: Loaded, { way, message, sparsity }: Refusal): string[] {
  return adviceOf(message).flatMap((change) => {
    const next = { ...way, ...change };
    const again = refusalOf(loaded, next);
    if (again === undefined) return [];
    if (next.sparsity === sparsity && /lower the sparsity/.test(again) && !/lower the sparsity/.test(message))
      return followAdvice(loaded, { way: next, message: again, sparsity });
    return [`${message} -> ${JSON.stringify(change)} -> ${again}`];
  });
}

describe.each(Object.entries(MODELS))('a model with %s', (_, build) => {
  it('is refused with advice that is not refused in turn', async () => {
    const loaded = await loadTinyLlama(build());
    expect(refusalsOf(loaded).length).toBeGreaterThan(0);
    expect(failingAdvice(loaded)).toEqual([]);
  });
});

it('exporters models are refused with advice that is not refused in turn', async () => {
  let refusals = 0;
  for (const { folder } of findCases('test/fixtures/exporters')) {
    const opened = await openModelFolder(folder).catch((error: unknown) => {
      expect(adviceOf((error as Error).message)).toEqual([]);
      return undefined;
    });
    if (opened === undefined) continue;
    const model = await opened.load();
    const loaded = { model, analysed: await analyseModel(model, testEngine) };
    refusals += refusalsOf(loaded).length;
    expect(failingAdvice(loaded)).toEqual([]);
    await opened.close();
  }
  expect(refusals).toBeGreaterThan(10);
});

const FOLLOWED: readonly (readonly [keyof typeof MODELS, PruneOptions])[] = [
  ['one attention that is not recognised', { sparsity: 0.3, modules: 'attention' }],
  ['that, and no FFN', { sparsity: 0.3 }],
  ['grouped-query attention alone', { sparsity: 0.95 }],
  ['experts in one operator', { sparsity: 0.3, modules: 'ffn' }],
  ['no gradient of an activation', { sparsity: 0.3, method: 'o-fang' }],
];

it.each(FOLLOWED)('a model with %s is pruned as advised: %j', async (name, way) => {
  const loaded = await loadTinyLlama(MODELS[name]());
  const windows = Array.from({ length: 2 }, (_, window) =>
    Int32Array.from({ length: 12 }, (_, at) => (at * (2 * window + 3) + at * at) % VOCABULARY),
  );
  const changes = adviceOf(refusalOf(loaded, way)!);
  expect(changes.length).toBeGreaterThan(0);
  for (const change of changes) {
    const { modules } = await pruneLoaded(loaded, { ...way, ...change }, { windows });
    expect(modules.some(({ module, keep, neurons }) => neurons ?? keep.length < module.unitCount)).toBeTruthy();
  }
});

const ZERO =
  (part: Part): Part =>
  (site, x) =>
    site.g.op('Mul', [part(site, x), site.g.scalar(site.block)]);

it.each([
  ['FFN', { ffn: ZERO(plainFfn) }],
  ['attention', { attention: ZERO(selfAttention()) }],
])('a model whose first %s adds nothing is pruned as the error of the run advises', async (_, shape) => {
  const loaded = await loadTinyLlama(buildDecoder(shape));
  const windows = [Int32Array.of(0, 3, 9, 4, 0, 7), Int32Array.of(5, 0, 1, 2, 6, 8)];
  const run = (more: Partial<PruneOptions> = {}) => pruneLoaded(loaded, { sparsity: 0.3, ...more }, { windows });
  const error = await run().catch((cause: unknown) => cause as Error);
  const changes = adviceOf((error as Error).message);
  expect(changes).toEqual([{ metric: 'output' }]);
  const { modules } = await run(changes[0]);
  expect(modules.some(({ module, keep }) => keep.length < module.unitCount)).toBe(true);
});

it('more than half of the heads is refused where half was asked and nothing else can be pruned', async () => {
  const { analysed, model } = await loadTinyLlama(buildDecoder({ ffn: unfusedExperts }));
  const { detected } = analysed;
  const modules = detected.layout.modules.map((module) => ({ ...module, unitCount: 3 }));
  const loaded = {
    model,
    analysed: { ...analysed, detected: { ...detected, layout: { ...detected.layout, modules } } },
  };
  const message = refusalOf(loaded, { sparsity: 0.5 });
  expect(message).toMatch(
    /^sparsity 0.5 would remove 4 of 6 heads, more than half: nothing else can be pruned \(experts stay\)/,
  );
  const advised = [{ modules: 'attention' } as const, { sparsity: 0.49 }];
  expect(adviceOf(message!)).toEqual(advised);
  for (const change of advised) expect(refusalOf(loaded, { sparsity: 0.5, ...change })).toBeUndefined();
  expect(refusalOf(loaded, { sparsity: 0.3 })).toBeUndefined();
});

it('no message names a file of the sources', () => {
  const found = readdirSync('src', { recursive: true, encoding: 'utf8' })
    .filter((path) => path.endsWith('.ts') && !path.endsWith('default-text.ts'))
    .flatMap((path) => {
      const code = readFileSync(join('src', path), 'utf8').replaceAll(/\/\*[\s\S]*?\*\/|^\s*\/\/.*$/gm, '');
      const strings = code.match(/(['"`])(?:\\.|(?!\1)[^\\])*\1/g) ?? [];
      // Sentences, not names of modules that are imported or started.
      const named = strings.filter((text) => text.includes(' ') && /\bsrc\/|\w\.m?ts\b/.test(text));
      return named.map((text) => `${path}: ${text}`);
    });
  expect(found).toEqual([]);
});
