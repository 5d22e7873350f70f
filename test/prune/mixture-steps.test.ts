import type { PrunableModule } from '../../src/architecture/layout.js';
import { resolveOptions } from '../../src/options.js';
import { mixtureLoss, mixtureSteps } from '../../src/prune/mixture-steps.js';
import { placeholderCuts } from '../../src/prune/size-problem.js';

/** Four experts of six neurons: 10 parameters a neuron, and 5 others. */
const module = {
  index: 0,
  block: 0,
  kind: 'experts',
  unitCount: 4,
  leastExperts: 2,
  expertsPerToken: 2,
  parametersPerUnit: 65,
  parametersPerGroup: 0,
  neurons: { unitCount: 6, unitSize: 1, parametersPerUnit: 10 },
} as unknown as PrunableModule;

/** Expert 3 is removed first. Its neurons cost nothing, those of the others 1 to 6. */
const order = {
  scores: Float64Array.of(3, 2, 1, 0),
  costs: Float64Array.of(8, 500, 500, 500),
  neurons: {
    scores: new Float64Array(24),
    costs: Float64Array.from({ length: 24 }, (_, at) => (at < 18 ? 1 + (at % 6) : 0)),
  },
};
const options = resolveOptions({ sparsity: 0.3, modules: 'experts' });

it('removes the cheapest parameters first, and counts the remaining ones', () => {
  const { costs, parameters, losses } = mixtureSteps(module, { options, order })!;
  // A neuron of each expert costs 3, expert 3 then 8, and the next neurons of the others 6.
  expect([...costs]).toEqual([3, 8, 6, 9, 12, 15, 500]);
  expect([...parameters]).toEqual([40, 55, 30, 30, 30, 30, 15]);
  expect(losses.slice(0, 3)).toEqual([
    { experts: 0, neurons: 1 },
    { experts: 1, neurons: 1 },
    { experts: 1, neurons: 2 },
  ]);
  expect(losses.at(-1)).toEqual({ experts: 2, neurons: 5 });
  let remaining = 4 * 65;
  losses.forEach(({ experts, neurons }, at) => {
    remaining -= parameters[at]!;
    expect(remaining).toBe((4 - experts) * (65 - 10 * neurons));
  });
  expect(mixtureLoss(module, { options, order, stepCount: 4 })).toEqual({ experts: 1, neurons: 3 });
  expect(mixtureLoss(module, { options, order, stepCount: 0 })).toEqual({ experts: 0, neurons: 0 });
});

it('keeps at least the required experts if they are no multiple of a group', () => {
  const groups = {
    ...module,
    groupOfUnit: Int32Array.of(0, 0, 1, 1),
    groupCount: 2,
    leastExperts: 3,
  } as PrunableModule;
  expect(mixtureSteps(groups, { options, order })!.losses.at(-1)).toEqual({ experts: 0, neurons: 5 });
});

it('returns placeholder cuts of the right size', () => {
  const dense = { functional: new Map(), orders: new Map([[module, order]]) };
  const [whole] = placeholderCuts([module], { options, dense }, new Map([[0, 2]]));
  expect(whole!.keep).toEqual(Int32Array.of(0, 1, 2));
  expect(whole!.neurons).toEqual(Int32Array.from({ length: 15 }, (_, at) => at % 5));
  const groupOfUnit = Int32Array.of(0, 0, 1, 1);
  const groups = { ...module, groupOfUnit, groupCount: 2 } as PrunableModule;
  const chosen = resolveOptions({ sparsity: 0.3, modules: 'experts', experts: 2 });
  const [even] = placeholderCuts([groups], { options: chosen, dense }, new Map([[0, 1]]));
  expect(even).toEqual({ module: groups, keep: Int32Array.of(0, 2) });
});

it('keeps widths at multiples, and at least the minimum', () => {
  const widths = (more: object) =>
    mixtureSteps(module, { options: { ...options, ...more }, order })!.losses.map(({ neurons }) => 6 - neurons);
  expect(new Set(widths({ widthMultiple: 4 }))).toEqual(new Set([4]));
  expect(Math.min(...widths({ minimumWidth: 0.5 }))).toBe(3);
  expect(Math.min(...widths({ minimumWidth: 0.5, denseWidths: new Map([[0, 10]]) }))).toBe(5);
  // Two neurons a unit: multiples of 4 neurons are those of 2 units.
  const pairs = { ...module, neurons: { ...module.neurons!, unitSize: 2 } } as PrunableModule;
  const { losses } = mixtureSteps(pairs, { options: { ...options, widthMultiple: 4 }, order })!;
  expect(new Set(losses.map(({ neurons }) => 6 - neurons))).toEqual(new Set([4, 2]));
});

it.each([
  ['a number of experts is set', { experts: 3 }],
  ['a sparsity of the block is set', { blockSparsity: { 0: 0.5 } }],
  ['minimumWidth is 1', { minimumWidth: 1 }],
  ['the allocation is uniform', { allocation: 'uniform' as const }],
])('removes only whole experts if %s', (_, more) => {
  const chosen = resolveOptions({ sparsity: 0.3, modules: 'experts', ...more });
  expect(mixtureSteps(module, { options: chosen, order })).toBeUndefined();
  expect(mixtureLoss(module, { options: chosen, order, stepCount: 1 })).toEqual({ experts: 1, neurons: 0 });
});
