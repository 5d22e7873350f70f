import { allocateSteps } from '../../src/allocation/allocate-steps.js';
import type { Allocation, AllocationProblem } from '../../src/allocation/allocation.js';
import { compared } from '../../src/allocation/compared.js';
import { global } from '../../src/allocation/global.js';
import { uniform } from '../../src/allocation/uniform.js';
import { type PruneOptions, resolveOptions } from '../../src/options.js';
import { chooseAllocation } from '../../src/prune/choose-allocation.js';
import type { PruneJob } from '../../src/prune/job.js';
import { type MeasuredModel, measureDense } from '../../src/prune/measure-dense/measure-dense.js';
import { pruneMeasured } from '../../src/prune/prune-model.js';
import { storeInMemory } from '../../src/removal/repair-linear.js';
import type { Journal } from '../../src/runtime/journal.js';
import { createMemoryStore } from '../../src/runtime/tensor-store.js';
import { testEngine } from '../support/engine.js';
import { loadFusedLlama } from '../support/short-llama.js';
import { someWindows } from '../support/tiny-llama.js';

/** Removes the whole budget from one block. */
const lopsided: Allocation = {
  allocate: ({ sparsity, modules }) => modules.map(({ block }) => (block === 2 ? sparsity * modules.length : 0)),
};
const choosing = (candidates: Allocation['candidates']): Allocation => ({ ...lopsided, candidates: candidates! });

async function measure(options: Partial<PruneOptions>, job: Partial<PruneJob> = {}): Promise<MeasuredModel> {
  const { model, analysed } = await loadFusedLlama();
  return measureDense({
    model,
    analysed,
    engine: testEngine,
    windows: someWindows(4, 24),
    store: storeInMemory,
    createStore: createMemoryStore,
    options: resolveOptions({ sparsity: 0.15, modules: 'ffn', method: 'flap', ...options }),
    ...job,
  });
}

describe('chooseAllocation', () => {
  it.each([
    [{ lopsided, even: uniform }, 1],
    [{ even: uniform, lopsided }, 0],
  ])('chooses the candidate whose draft predicts best: %#', async (candidates, best) => {
    const measured = await measure({ allocation: choosing(candidates) });
    const outcome = await pruneMeasured(measured);
    const found = outcome.candidates!;
    expect(found.map(({ name }) => name)).toEqual(Object.keys(candidates));
    expect(found.map(({ chosen }) => chosen)).toEqual([0, 1].map((at) => at === best));
    expect(found[best]!.divergence).toBeLessThan(found[1 - best]!.divergence);
    expect(outcome.remarks.join()).toMatch(/compared 2 allocations .* even [\d.]+.*; chose even$/m);
    const plain = await pruneMeasured(await measure({ allocation: uniform }));
    expect(outcome.modules.map(({ keep }) => keep)).toEqual(plain.modules.map(({ keep }) => keep));
    expect([...outcome.changed.keys()]).toEqual([...plain.changed.keys()]);
  });

  it.each<[string, Allocation, Partial<PruneJob>]>([
    ['remove the same', choosing({ one: uniform, other: { allocate: (problem) => uniform.allocate(problem) } }), {}],
    ['have no windows to be compared on', choosing({ lopsided, even: uniform }), { windows: someWindows(1, 24) }],
  ])('does not compare candidates that %s', async (_, allocation, job) => {
    const measured = await measure({ allocation }, job);
    const { candidates } = await chooseAllocation(measured, measured.job);
    expect(candidates).toBeUndefined();
  });

  it.each([
    ['the first', [0.1, 0.2], 0],
    ['the first, if another is hardly better', [0.1, 0.098], 0],
    ['another that is clearly better', [0.1, 0.09], 1],
  ])('resumes from the figures of an interrupted run, and chooses %s', async (_, figures, best) => {
    const measured = await measure({ allocation: choosing({ lopsided, even: uniform }) });
    const saved = {
      async *read() {
        yield figures;
      },
    };
    const journal = { read: async () => saved.read() } as unknown as Journal;
    const { allocation, candidates } = await chooseAllocation(measured, { ...measured.job, journal });
    expect(allocation).toBe([lopsided, uniform][best]);
    expect(candidates!.map(({ chosen }) => chosen)).toEqual([best === 0, best === 1]);
    expect(candidates!.map(({ divergence }) => divergence)).toEqual(figures);
  });
});

it('offers the threshold, a uniform allocation and their mean at one budget', () => {
  const module = (at: number) => ({
    block: at,
    kind: 'ffn' as const,
    parameterCount: 100,
    unitCount: 100,
    stepCount: 100,
    parametersPerStep: 1,
    minimumKept: 1,
    multiple: 1,
    order: { scores: new Float64Array(100), costs: Float64Array.from({ length: 100 }, (_, step) => (at + 1) * step) },
  });
  const problem: AllocationProblem = { sparsity: 0.3, modules: [0, 1, 2].map(module), evenHeads: false };
  const [threshold, halfway, even] = Object.values(compared.candidates!).map((row) =>
    Array.from(row.allocate(problem)),
  );
  expect(threshold).toEqual(Array.from(global.allocate(problem)));
  expect(even).toEqual([0.3, 0.3, 0.3]);
  for (const [at, value] of halfway!.entries()) expect(value).toBeCloseTo((threshold![at]! + 0.3) / 2, 2);
  expect(halfway!.reduce((sum, value) => sum + value, 0)).toBeCloseTo(0.9, 2);
});

it('meets the budget with every candidate if heads are few and large', () => {
  const costs = (count: number, scale: number) => Float64Array.from({ length: count }, (_, step) => scale * (step + 1));
  const sizes = { ffn: [100, 10], attention: [2, 200] } as const;
  const module = (block: number, kind: 'ffn' | 'attention') => {
    const [stepCount, parametersPerStep] = sizes[kind];
    return {
      ...{
        block,
        kind,
        stepCount,
        parametersPerStep,
        unitCount: stepCount,
        parameterCount: stepCount * parametersPerStep,
      },
      minimumKept: 1,
      multiple: 1,
      // The threshold spares the heads.
      order: { scores: new Float64Array(stepCount), costs: costs(stepCount, kind === 'ffn' ? 1 + block : 1e6) },
    };
  };
  const modules = [0, 1, 2].flatMap((block) => [module(block, 'attention'), module(block, 'ffn')]);
  const total = modules.reduce((sum, { parameterCount }) => sum + parameterCount, 0);
  for (const allocation of Object.values(compared.candidates!)) {
    const steps = allocateSteps(allocation, { sparsity: 0.3, modules, evenHeads: true });
    const removed = steps.reduce((sum, count, at) => sum + count * modules[at]!.parametersPerStep, 0);
    expect(removed / total).toBeCloseTo(0.3, 2);
  }
});
