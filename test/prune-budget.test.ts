import type { Allocation, AllocationProblem, ModuleMeasures } from '../src/allocation/allocation.js';
import { ALLOCATIONS, type AllocationName } from '../src/allocation/allocations.js';
import { spreadByMeasure } from '../src/allocation/spread-by-measure.js';
import { OptionError } from '../src/errors.js';
import type { PruneOptions } from '../src/options.js';
import type { PruneOutcome } from '../src/prune/job.js';
import type { Engine } from '../src/runtime/engine.js';
import { loadFusedLlama } from './support/short-llama.js';
import { type Loaded, pruneLoaded } from './support/tiny-llama.js';

let loaded: Loaded;
beforeAll(async () => {
  loaded = await loadFusedLlama();
});

/** An engine that loads no model. */
const failingEngine: Engine = { name: 'blind', load: () => Promise.reject(new Error('looked at the model')) };

async function expectRefusal(options: PruneOptions, message: RegExp) {
  const pruning = pruneLoaded(loaded, options, { engine: failingEngine });
  await expect(pruning).rejects.toThrow(OptionError);
  await expect(pruning).rejects.toThrow(message);
}

describe('a budget', () => {
  it.each(Object.keys(ALLOCATIONS) as AllocationName[])(
    'is refused before the model runs if too many blocks are skipped (%s)',
    (allocation) =>
      expectRefusal(
        { sparsity: 0.5, method: 'flap', allocation, blockSparsity: { 0: 0, 1: 0, 2: 0, 3: 0, 4: 0 } },
        /(0\.5|50\.00 %).*lower the sparsity/,
      ),
  );

  it.each(['uniform', 'adaptive', 'owl'] as const)(
    'is refused before the model runs if head counts would differ (%s)',
    (allocation) =>
      expectRefusal({ sparsity: 0.3, method: 'flap', allocation, blockSparsity: { 0: 0 } }, /set perBlockKvHeads/),
  );

  it('is refused before the model runs if minimumWidth is too high', () =>
    expectRefusal(
      { sparsity: 0.5, modules: 'ffn', minimumWidth: 0.9 },
      /at most 9\.96 % can be removed.*lower the sparsity/,
    ));

  it('is not refused if it can be met', async () => {
    const options: PruneOptions = { sparsity: 0.3, method: 'flap', blockSparsity: { 0: 0 }, modules: 'ffn' };
    await expect(pruneLoaded(loaded, options, { engine: failingEngine })).rejects.toThrow('looked at the model');
  });
});

it.each([true, false])(
  'keeps fixed widths with standardised scores, and meets the budget in other blocks (perBlockKvHeads: %s)',
  async (perBlockKvHeads) => {
    const attention = { 0: { ffn: 0, attention: 0.25 }, 3: { ffn: 0.5, attention: 0.25 } };
    const { modules } = await pruneLoaded(loaded, {
      sparsity: 0.3,
      method: 'flap',
      allocation: 'standardised',
      blockSparsity: perBlockKvHeads ? attention : { 0: { ffn: 0 }, 3: { ffn: 0.5 } },
      perBlockKvHeads,
    });
    const keptOf = (kind: string, block: number) =>
      modules.find(({ module }) => module.kind === kind && module.block === block)?.keep.length;
    expect(keptOf('ffn', 0)).toBeUndefined();
    expect(keptOf('ffn', 3)).toBe(256);
    if (perBlockKvHeads) expect([keptOf('attention', 0), keptOf('attention', 3)]).toEqual([6, 6]);
    expect(removedFraction(modules)).toBeCloseTo(0.3, 3);
  },
);

it.each(['adaptive', 'owl', 'taylor'] as const)(
  'meets the budget in the FFNs after rounding to entire KV groups (%s)',
  async (allocation) => {
    const { modules } = await pruneLoaded(loaded, { sparsity: 0.3, method: 'flap', allocation });
    const kept = (kind: string) => modules.filter(({ module }) => module.kind === kind).map(({ keep }) => keep.length);
    expect(new Set(kept('attention')).size).toBe(1);
    expect(removedFraction(modules)).toBeCloseTo(0.3, 3);
  },
);

it('meets a budget close to the largest possible', async () => {
  const { modules } = await pruneLoaded(loaded, { sparsity: 0.89, method: 'flap', allocation: 'adaptive' });
  expect(removedFraction(modules)).toBeCloseTo(0.89, 2);
});

describe('a custom allocation', () => {
  const widths = ({ modules }: Pick<PruneOutcome, 'modules'>) =>
    modules.filter(({ module }) => module.kind === 'ffn').map(({ keep }) => keep.length);

  it('is called once as a function, with the measured block change', async () => {
    const problems: AllocationProblem[] = [];
    const allocation = (problem: AllocationProblem) => {
      problems.push(problem);
      return problem.modules.map(({ block }) => 0.125 * (block + 1));
    };
    const outcome = await pruneLoaded(loaded, { sparsity: 0.3, modules: 'ffn', method: 'flap', allocation });
    expect(widths(outcome)).toEqual([448, 384, 320, 256, 192, 128]);
    expect(problems).toHaveLength(1);
    expect(problems[0]!.modules.map(({ blockChange }) => blockChange)).toEqual([...outcome.dense.blockChange!]);
  });

  it('gets measures and a removal order as a row, and may remove entire FFNs', async () => {
    const allocation: Allocation = {
      measures: ['sensitivity'],
      orderBy: ({ adapter }) => adapter,
      removesEntireFfns: true,
      allocate({ modules }) {
        for (const { sensitivity, order, stepCount, unitCount } of modules) {
          expect(sensitivity).toBeGreaterThan(0);
          expect([order?.scores.length, order?.costs.length]).toEqual([unitCount, stepCount]);
        }
        return modules.map(({ block }) => (block === 3 ? 1 : 0.25));
      },
    };
    const options: PruneOptions = { sparsity: 0.3, modules: 'ffn', method: 'flap', allocation };
    expect(widths(await pruneLoaded(loaded, { ...options, minimumWidth: 0 }))).toEqual([384, 384, 384, 0, 384, 384]);
    await expect(pruneLoaded(loaded, options)).rejects.toThrow(/gave block 3 ffn the sparsity 1; expected/);
  });

  it('meets the budget by a measure of its own', async () => {
    const measureOf = ({ block }: ModuleMeasures) => block;
    const allocate = (problem: AllocationProblem) => spreadByMeasure(problem, { measureOf });
    const { modules } = await pruneLoaded(loaded, { sparsity: 0.3, method: 'magnitude', allocation: { allocate } });
    expect(removedFraction(modules)).toBeCloseTo(0.3, 3);
    expect(widths({ modules })).toEqual(widths({ modules }).toSorted((a, b) => a - b));
  });
});

/** Removed parameters as a fraction of the prunable ones. */
function removedFraction(modules: Awaited<ReturnType<typeof pruneLoaded>>['modules']): number {
  const removed = modules.reduce((sum, { module, keep }) => {
    const units = module.unitCount - keep.length;
    const groups = module.groupCount === undefined ? 0 : units / (module.unitCount / module.groupCount);
    return sum + units * module.parametersPerUnit + groups * module.parametersPerGroup;
  }, 0);
  return removed / loaded.analysed.detected.layout.modules.reduce((sum, { parameterCount }) => sum + parameterCount, 0);
}
