import { readFileSync } from 'node:fs';
import { NumericalError, OptionError } from '../../src/errors.js';
import { ASSIGNMENTS, type AssignmentName, groupNeurons, type NeuronGroups } from '../../src/grouping/group-neurons.js';
import { createRandom, drawPermutation } from '../../src/linalg/random.js';

const names = Object.keys(ASSIGNMENTS) as AssignmentName[];
const affinityOf = (contextCount: number, neuronCount: number, seed = 1) =>
  Float64Array.from({ length: contextCount * neuronCount }, createRandom(seed));
const members = ({ shared, functions }: NeuronGroups) => [...shared, ...functions.flatMap((group) => [...group])];
const affinityKept = (affinity: Float64Array, { functions }: NeuronGroups) => {
  const neuronCount = affinity.length / functions.length;
  return functions.reduce((sum, group, k) => sum + group.reduce((s, j) => s + affinity[k * neuronCount + j]!, 0), 0);
};

describe.each(names)('assignment %s', (assignment) => {
  it.each([
    [7, 64],
    [7, 67],
    [3, 4],
    [1, 10],
    [5, 31],
  ])('puts each neuron in one group: %i contexts, %i neurons', (contextCount, neuronCount) => {
    const affinity = affinityOf(contextCount, neuronCount);
    for (const sharedGroup of [true, false]) {
      const groups = groupNeurons({ affinity, contextCount, assignment, sharedGroup, random: createRandom(2) });
      expect(members(groups).sort((a, b) => a - b)).toEqual(Array.from({ length: neuronCount }, (_, j) => j));
      const filled = assignment === 'together' ? groups.functions.slice(0, 1) : groups.functions;
      expect(groups.functions.slice(filled.length).every((group) => group.length === 0)).toBe(true);
      const sizes = filled.map((group) => group.length);
      if (!sharedGroup) expect(groups.shared).toHaveLength(0);
      else if (assignment === 'together')
        expect(groups.shared).toHaveLength(Math.floor(neuronCount / (contextCount + 1)));
      else sizes.push(groups.shared.length);
      expect(Math.max(...sizes) - Math.min(...sizes)).toBeLessThanOrEqual(1);
      for (const group of groups.functions) expect([...group]).toEqual([...group].sort((a, b) => a - b));
    }
  });
});

describe('groupNeurons', () => {
  it('gives the reference groups', () => {
    const { affinity, shared, functions } = JSON.parse(readFileSync('test/fixtures/golden-groups.json', 'utf8'));
    const groups = groupNeurons({ affinity: Float64Array.from(affinity), contextCount: 7 });
    expect([...groups.shared]).toEqual(shared);
    expect(groups.functions.map((group) => [...group])).toEqual(functions);
  });

  it('shares neurons that serve all contexts, and groups specialists by their contexts', () => {
    // Neurons 0 and 1 serve all contexts; 2..7 each serve one of three.
    const affinity = Float64Array.from({ length: 24 }, (_, at) => {
      const [context, neuron] = [Math.floor(at / 8), at % 8];
      return neuron < 2 ? 9 : Math.floor((neuron - 2) / 2) === context ? 5 : 1;
    });
    for (const assignment of ['greedy', 'exact'] as const) {
      const { shared, functions } = groupNeurons({ affinity, contextCount: 3, assignment });
      expect([...shared]).toEqual([0, 1]);
      expect(functions.map((group) => [...group])).toEqual([
        [2, 3],
        [4, 5],
        [6, 7],
      ]);
    }
  });

  it('keeps no less affinity by exact than by greedy assignment, and less by random', () => {
    const affinity = affinityOf(7, 128);
    const kept = (assignment: AssignmentName) =>
      affinityKept(affinity, groupNeurons({ affinity, contextCount: 7, assignment, random: createRandom(3) }));
    expect(kept('exact')).toBeGreaterThanOrEqual(kept('greedy'));
    expect(kept('greedy')).toBeGreaterThan(kept('random'));
  });

  it('permutes the groups with the neurons', () => {
    const affinity = affinityOf(7, 64);
    const order = drawPermutation(createRandom(5), 64);
    const permuted = affinity.map((_, at) => affinity[Math.floor(at / 64) * 64 + order[at % 64]!]!);
    const { shared, functions } = groupNeurons({ affinity, contextCount: 7 });
    const moved = groupNeurons({ affinity: permuted, contextCount: 7 });
    const back = (group: Int32Array) => Array.from(group, (j) => order[j]!).sort((a, b) => a - b);
    expect(back(moved.shared)).toEqual([...shared]);
    expect(moved.functions.map(back)).toEqual(functions.map((group) => [...group]));
  });

  it('breaks ties by the lower context and neuron', () => {
    const { shared, functions } = groupNeurons({ affinity: new Float64Array(12).fill(1), contextCount: 2 });
    expect([...shared]).toEqual([0, 1]);
    expect(functions.map((group) => [...group])).toEqual([
      [2, 3],
      [4, 5],
    ]);
  });

  it('refuses too few neurons, invalid options and NaN', () => {
    expect(() => groupNeurons({ affinity: affinityOf(7, 7), contextCount: 7 })).toThrow(
      /7 neurons cannot make 8 groups/,
    );
    expect(() => groupNeurons({ affinity: affinityOf(7, 8), contextCount: 5 })).toThrow(OptionError);
    expect(() => groupNeurons({ affinity: affinityOf(2, 8), contextCount: 2, assignment: 'random' })).toThrow(
      OptionError,
    );
    expect(() => groupNeurons({ affinity: affinityOf(2, 8), contextCount: 2, assignment: 'best' as 'exact' })).toThrow(
      OptionError,
    );
    const damaged = affinityOf(2, 8).map((value, at) => (at === 11 ? Number.NaN : value));
    expect(() => groupNeurons({ affinity: damaged, contextCount: 2 })).toThrow(NumericalError);
    expect(() => groupNeurons({ affinity: damaged, contextCount: 2 })).toThrow(/context 1 to neuron 3 is NaN/);
  });
});
