import { summariseAffinity } from '../../src/report/summarise-affinity.js';

describe('summariseAffinity', () => {
  // 2 contexts, 6 neurons.
  const affinity = Float64Array.of(9, 1, 2, 0, 0, 8, /* second context */ 9, 0, 0, 4, 3, 8);
  const groups = { shared: Int32Array.of(0, 5), functions: [Int32Array.of(1, 2), Int32Array.of(3, 4)] };

  it('has groups side by side, each beginning with its strongest neuron', () => {
    const found = summariseAffinity({ affinity, contextCount: 2, groups, keep: [0, 2, 3, 4, 5] });
    expect(found.columns.map(({ group }) => group)).toEqual([0, 0, 1, 1, 2, 2]);
    expect(found.values).toEqual([
      [9, 8, 2, 1, 0, 0],
      [9, 8, 0, 0, 4, 3],
    ]);
    expect(found.columns.map(({ keptCount }) => keptCount)).toEqual([1, 1, 1, 0, 1, 1]);
  });

  it('numbers function groups from 0 if there is no shared group', () => {
    const free = { shared: new Int32Array(0), functions: [Int32Array.of(0, 1, 2), Int32Array.of(3, 4, 5)] };
    const found = summariseAffinity({ affinity, contextCount: 2, groups: free, keep: [] });
    expect(found.columns.map(({ group }) => group)).toEqual([0, 0, 0, 1, 1, 1]);
  });

  it('averages adjacent neurons if there are many, and counts each once', () => {
    const neuronCount = 1001;
    const wide = Float64Array.from({ length: neuronCount * 2 }, (_, at) => at % neuronCount);
    const halves = {
      shared: new Int32Array(0),
      functions: [0, 1].map((half) =>
        Int32Array.from({ length: neuronCount }, (_, neuron) => neuron).filter((neuron) => neuron % 2 === half),
      ),
    };
    const found = summariseAffinity({ affinity: wide, contextCount: 2, groups: halves, keep: [1, 2, 3] });
    expect(found.columns).toHaveLength(64);
    expect(found.columns.reduce((sum, column) => sum + column.neuronCount, 0)).toBe(neuronCount);
    expect(found.columns.reduce((sum, column) => sum + column.keptCount, 0)).toBe(3);
    const [row] = found.values;
    expect(row!.slice(0, 32)).toEqual([...row!.slice(0, 32)].sort((one, other) => other - one));
    const whole = found.columns.reduce((sum, column, at) => sum + column.neuronCount * row![at]!, 0);
    expect(whole / ((neuronCount * (neuronCount - 1)) / 2)).toBeCloseTo(1, 3);
  });
});
