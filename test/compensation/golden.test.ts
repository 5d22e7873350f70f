import { readFileSync } from 'node:fs';
import ndarray from 'ndarray';
import { createAdapter } from '../../src/compensation/methods.js';
import { chooseChannels } from '../../src/removal/choose-channels.js';

// Written by scripts/check-golden.ts (`madeBy` in each file) from an independent float64 implementation.
const fixture = (name: string) => JSON.parse(readFileSync(`test/fixtures/golden-${name}.json`, 'utf8'));

/** Four rows of the real weight, and a fifth that gives columns their real norms: scores read norms, repairs read rows. */
function weightOf({ rows, columnNorms }: { rows: number[][]; columnNorms: number[] }) {
  const last = columnNorms.map((norm, j) => Math.sqrt(norm ** 2 - rows.reduce((sum, row) => sum + row[j]! ** 2, 0)));
  return ndarray(Float32Array.from([...rows, last].flat()), [rows.length + 1, columnNorms.length]);
}

const units = (count: number) => ({
  unitOfChannel: Int32Array.from({ length: count }, (_, j) => j),
  unitCount: count,
  random: () => 0,
});

describe('against independent float64 numbers', () => {
  it('flap keeps the same neurons and adds the same bias', async () => {
    const { mean, variance, keep, bias, ...weight } = fixture('flap');
    const statistics = { tokenCount: 1024, mean: Float64Array.from(mean), variance: Float64Array.from(variance) };
    const adapter = createAdapter('flap');
    const { scores, compensate } = await adapter.prepare({ weight: weightOf(weight), statistics, ...units(512) });
    const group = { units: scores.map((_, j) => j), scores };
    const choice = chooseChannels({ unitCount: 512, groups: [group], removeCount: 512 - keep.length });
    expect(Array.from(choice.keep)).toEqual(keep);
    const added = (await compensate(choice.keep)).bias!;
    bias.forEach((value: number, row: number) => {
      expect(added[row]).toBeCloseTo(value, 9);
    });
  });

  it('obc keeps the same neurons of a function group and repairs them equally', async () => {
    const { tokenCount, gramLowerTriangle, mean, variance, keep, repaired, ...weight } = fixture('obc');
    const gram = Float64Array.from({ length: 64 * 64 }, (_, at) => {
      const [high, low] = [Math.max(Math.floor(at / 64), at % 64), Math.min(Math.floor(at / 64), at % 64)];
      return gramLowerTriangle[(high * (high + 1)) / 2 + low];
    });
    const statistics = { tokenCount, mean: Float64Array.from(mean), variance: Float64Array.from(variance), gram };
    const adapter = createAdapter('obc');
    const { scores, compensate } = await adapter.prepare({ weight: weightOf(weight), statistics, ...units(64) });
    const group = { units: scores.map((_, j) => j), scores };
    const choice = chooseChannels({ unitCount: 64, groups: [group], removeCount: 64 - keep.length });
    expect(Array.from(choice.keep)).toEqual(keep);
    const columns = (await compensate(choice.keep)).weight!;
    repaired.flat().forEach((value: number, at: number) => {
      expect(Math.abs(columns[at]! - value)).toBeLessThan(1e-7);
    });
  });
});
