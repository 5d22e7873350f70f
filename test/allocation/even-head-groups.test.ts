import type { ModuleMeasures } from '../../src/allocation/allocation.js';
import { evenHeadGroups, freeHeadGroups } from '../../src/allocation/even-head-groups.js';

const module = (block: number, given: Partial<ModuleMeasures> = {}): ModuleMeasures => ({
  block,
  kind: 'attention',
  parameterCount: 40,
  unitCount: 4,
  stepCount: 4,
  parametersPerStep: 10,
  minimumKept: 1,
  multiple: 1,
  ...given,
});

const modules = [
  module(0),
  module(0, { kind: 'ffn' }),
  module(1, { keyValueSource: 4 }),
  module(2, { keyValueSource: 4, fixed: 0.5 }),
  module(3, { attentionType: 'linear' }),
  module(4),
];

const blocksOf = (groups: readonly (readonly ModuleMeasures[])[]) =>
  groups.map((group) => group.map(({ block }) => block));

it('groups all attention of each type if its heads must be even', () => {
  expect(blocksOf(evenHeadGroups({ modules, evenHeads: true }))).toEqual([[0, 1, 2, 4], [3]]);
});

it('otherwise groups only attention that shares keys and values', () => {
  expect(blocksOf(evenHeadGroups({ modules, evenHeads: false }))).toEqual([[1, 2]]);
  expect(evenHeadGroups({ modules: [module(0), module(1)], evenHeads: false })).toEqual([]);
});

it('leaves out modules whose sparsity is fixed', () => {
  expect(blocksOf(freeHeadGroups({ modules, evenHeads: true }))).toEqual([[0, 1, 4], [3]]);
  expect(blocksOf(freeHeadGroups({ modules, evenHeads: false }))).toEqual([[1]]);
});
