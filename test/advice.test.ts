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

const RUNS: readonly PruneOptions[] = [
  ...[0.3, 0.5, 0.95].flatMap((sparsity) => [{ sparsity }, { sparsity, method: 'flap' } as const]),
  ...(['ffn', 'attention', 'experts'] as const).map((modules) => ({ sparsity: 0.3, modules })),
  ...(['ffn', 'attention'] as const).map((kind) => ({
    sparsity: 0.3,
    perBlockKvHeads: true,
    blockSparsity: { 0: { [kind]: 0.3 } },
  })),
  { sparsity: 0.3, method: 'o-fang' },
  { sparsity: 0.3, metric: 'loss' },
  { sparsity: 0.3, allocation: 'taylor' },
  { sparsity: 0.3, widthMultiple: 4096 },
  { sparsity: 0.3, method: 'flap', heal: {} },
];

/** An operator that heads cannot be followed through. */
const unsupportedAttention: Part = (site, x) => {
  const { g } = site;
  return linear(g, g.op('CumSum', [selfAttention()(site, x), g.intScalar(2)]), HIDDEN, HIDDEN);
};
const unsupportedFfn: Part = ({ g }, x) => {
  const sums = g.op('CumSum', [g.op('Relu', [linear(g, x, HIDDEN, NEURONS)]), g.intScalar(2)]);
  return linear(g, sums, NEURONS, HIDDEN);
};
/** Unsupported experts: an FFN multiplied by the larger of two router scores. */
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
  'shared keys and values that are not pruned': () => buildSharing({ reversed: true }),
  'experts in one operator': () => buildDecoder({ ffn: fusedExperts }),
  'attention that is not recognised': () => buildDecoder({ attention: unsupportedAttention }),
  'one attention that is not recognised': () =>
    buildDecoder({ attention: inFirst(unsupportedAttention, selfAttention()) }),
  'one attention and all FFNs that are not recognised': () =>
    buildDecoder({ attention: inFirst(unsupportedAttention, selfAttention()), ffn: unsupportedFfn }),
  'no module that is recognised': () => buildDecoder({ attention: unsupportedAttention, ffn: unsupportedFfn }),
  'grouped-query attention alone': () =>
    buildDecoder({
      ffn: unsupportedFfn,
      attention: selfAttention({ project: separate(2), spread: repeatHeads(2) }),
    }),
  'an activation without a gradient': () => buildDecoder({ ffn: withoutGradient }),
  'logits of the last token': () =>
    buildDecoder({ takeLast: (g, x) => g.op('ReduceMean', [x], { axes: [1], keepdims: 1 }) }),
} as const;

/** Names of options with a flag, as the API has them; plain English words are left out. */
const API_NAMES = new RegExp(
  listRows(rowsOf(PRUNE))
    .flatMap(({ path, row }) =>
      row.flag !== undefined && /[A-Z.]/.test(path) ? `\\b${path.replace('.', '\\.')}\\b` : [],
    )
    .join('|'),
);

/** Messages of refusals, and the options that were refused. */
function refusalsOf(loaded: Loaded): (readonly [PruneOptions, string])[] {
  return RUNS.flatMap((options) => {
    const message = refusalOf(loaded, options);
    return message === undefined ? [] : [[options, message] as const];
  });
}

function refusalOf(loaded: Loaded, options: PruneOptions): string | undefined {
  try {
    checkRun({ ...loaded, options: resolveOptions(options) });
    return undefined;
  } catch (error) {
    expect(error).toBeInstanceOf(FangPruneError);
    expect((inFlags(error, PRUNE) as Error).message).not.toMatch(API_NAMES);
    return (error as Error).message;
  }
}

/** Advice that leads to another refusal. A model that cannot be pruned at all has no advice to follow. */
function failingAdvice(loaded: Loaded): string[] {
  const usual = refusalOf(loaded, { sparsity: 0.3 });
  if (usual !== undefined && adviceOf(usual).length === 0) return [];
  return refusalsOf(loaded).flatMap(([options, message]) =>
    followAdvice(loaded, { options, message, sparsity: options.sparsity }),
  );
}

interface Refusal {
  readonly options: PruneOptions;
  readonly message: string;
  readonly sparsity: PruneOptions['sparsity'];
}

/** A second refusal is accepted if it is the first one about a sparsity that is too high. */
function followAdvice(loaded: Loaded, { options, message, sparsity }: Refusal): string[] {
  return adviceOf(message).flatMap((change) => {
    const next = { ...options, ...change };
    const again = refusalOf(loaded, next);
    if (again === undefined) return [];
    if (next.sparsity === sparsity && /lower the sparsity/.test(again) && !/lower the sparsity/.test(message))
      return followAdvice(loaded, { options: next, message: again, sparsity });
    return [`${message} -> ${JSON.stringify(change)} -> ${again}`];
  });
}

describe.each(Object.entries(MODELS))('a model with %s', (_, build) => {
  it('advises options that are not refused in turn', async () => {
    const loaded = await loadTinyLlama(build());
    expect(refusalsOf(loaded).length).toBeGreaterThan(0);
    expect(failingAdvice(loaded)).toEqual([]);
  });
});

it('advises options that are not refused in turn, for models of many exporters', async () => {
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
  ['one attention and all FFNs that are not recognised', { sparsity: 0.3 }],
  ['grouped-query attention alone', { sparsity: 0.95 }],
  ['experts in one operator', { sparsity: 0.3, modules: 'ffn' }],
  ['an activation without a gradient', { sparsity: 0.3, method: 'o-fang' }],
];

it.each(FOLLOWED)('prunes a model with %s as its refusal advises: %j', async (name, options) => {
  const loaded = await loadTinyLlama(MODELS[name]());
  const windows = Array.from({ length: 2 }, (_, window) =>
    Int32Array.from({ length: 12 }, (_, at) => (at * (2 * window + 3) + at * at) % VOCABULARY),
  );
  const changes = adviceOf(refusalOf(loaded, options)!);
  expect(changes.length).toBeGreaterThan(0);
  for (const change of changes) {
    const { modules } = await pruneLoaded(loaded, { ...options, ...change }, { windows });
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
])('prunes a model whose first %s outputs zeros as the error of the run advises', async (_, shape) => {
  const loaded = await loadTinyLlama(buildDecoder(shape));
  const windows = [Int32Array.of(0, 3, 9, 4, 0, 7), Int32Array.of(5, 0, 1, 2, 6, 8)];
  const run = (more: Partial<PruneOptions> = {}) => pruneLoaded(loaded, { sparsity: 0.3, ...more }, { windows });
  const error = await run().catch((cause: unknown) => cause as Error);
  const changes = adviceOf((error as Error).message);
  expect(changes).toEqual([{ metric: 'output' }]);
  const { modules } = await run(changes[0]);
  expect(modules.some(({ module, keep }) => keep.length < module.unitCount)).toBe(true);
});

it('refuses sparsity 0.5 if only heads can be pruned and over half would be removed', async () => {
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

it('has no message that names a source file', () => {
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
