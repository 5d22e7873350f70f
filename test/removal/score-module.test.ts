import ndarray from 'ndarray';
import type { PrunableModule } from '../../src/architecture/layout.js';
import type { ChannelStatistics, CompensationAdapter, PreparedImportance } from '../../src/compensation/adapter.js';
import { createAdapter } from '../../src/compensation/methods.js';
import { NumericalError, OptionError } from '../../src/errors.js';
import { channelsOf, type ModuleCase, scoreModule } from '../../src/removal/score-module.js';

/** An output projection of 2 rows over `unitCount` units of `unitSize` channels. */
function moduleOf(unitCount: number, unitSize = 1, groupOfUnit?: number[]): PrunableModule {
  const inputCount = unitCount * unitSize;
  return {
    index: 0,
    kind: groupOfUnit ? 'attention' : 'ffn',
    block: 3,
    segment: 1,
    input: 'x',
    output: { node: 'down', input: 'h', result: 'y', weight: 'w', inputAxis: 1, inputCount, outputCount: 2 },
    unitCount,
    unitOfChannel: Int32Array.from({ length: inputCount }, (_, channel) => Math.floor(channel / unitSize)),
    unitSize,
    ...(groupOfUnit && { groupOfUnit: Int32Array.from(groupOfUnit), groupCount: Math.max(...groupOfUnit) + 1 }),
    parametersPerUnit: 2 * unitSize,
    parametersPerGroup: 0,
    parameterCount: 2 * inputCount,
    description: 'test',
  };
}

const statisticsOf = (channelCount: number): ChannelStatistics => ({
  tokenCount: 10,
  mean: Float64Array.from({ length: channelCount }, (_, channel) => channel + 1),
  variance: new Float64Array(channelCount).fill(1),
});

/** Scores a unit by its index, and returns repairs that show which channels remain. */
const scoringByIndex: CompensationAdapter = {
  needs: 'moments',
  prepare: ({ weight, unitCount }) => ({
    scores: Float64Array.from({ length: unitCount }, (_, unit) => unit),
    compensate: (keep) => ({
      weight: Float32Array.from({ length: 2 * keep.length }, (_, at) => {
        const row = Math.floor(at / keep.length);
        return 100 + weight.get(row, keep[at % keep.length]!);
      }),
      bias: Float64Array.of(1, 10),
    }),
    remarks: ['told'],
  }),
};

const channelNumbers = (count: number) =>
  ndarray(
    Float32Array.from({ length: 2 * count }, (_, at) => at % count),
    [2, count],
  );

const scoreCase = (given: Partial<ModuleCase> & Pick<ModuleCase, 'module'>) =>
  scoreModule({
    weight: channelNumbers(given.module.output.inputCount),
    groups: [
      {
        units: Int32Array.from({ length: given.module.unitCount }, (_, unit) => unit),
        statistics: statisticsOf(given.module.output.inputCount),
      },
    ],
    adapter: scoringByIndex,
    headUnit: 'group',
    random: () => 0.5,
    ...given,
  });

describe('scoreModule', () => {
  it('removes whole heads of grouped-query attention, by group', async () => {
    const scored = await scoreCase({ module: moduleOf(4, 2, [0, 0, 1, 1]) });
    expect([...scored.scores]).toEqual([0, 1, 2, 3]);
    const { keep, weight, overflow } = await scored.remove(1);
    expect([...keep]).toEqual([2, 3]);
    expect([...weight!]).toEqual([104, 105, 106, 107, 104, 105, 106, 107]);
    expect(overflow).toBe(0);
  });

  it('removes one query head of every group', async () => {
    const scored = await scoreCase({ module: moduleOf(4, 1, [0, 0, 1, 1]), headUnit: 'query' });
    expect([...(await scored.remove(1)).keep]).toEqual([1, 3]);
  });

  it('scores by a known order, and passes it to the method', async () => {
    let known: Float64Array | undefined;
    const adapter: CompensationAdapter = {
      needs: scoringByIndex.needs,
      prepare: (problem) => {
        known = problem.knownScores;
        return scoringByIndex.prepare(problem);
      },
    };
    const order = Float64Array.of(3, 1, 2, 0);
    const scored = await scoreCase({ module: moduleOf(4), adapter, order });
    expect([...known!]).toEqual([...order]);
    expect([...scored.scores]).toEqual([...order]);
    expect([...(await scored.remove(2)).keep]).toEqual([0, 2]);
  });

  it('scores function groups separately, keeps ungrouped units, and joins repairs and biases', async () => {
    const groups = [
      { units: Int32Array.of(0, 4), statistics: statisticsOf(2) },
      { units: Int32Array.of(1, 3), statistics: statisticsOf(2) },
    ];
    const scored = await scoreCase({ module: moduleOf(6), groups });
    const infinite = Number.POSITIVE_INFINITY;
    expect([...scored.scores]).toEqual([0, 0, infinite, 1, 1, infinite]);
    expect(scored.remarks).toEqual(['told', 'told']);
    const removal = await scored.remove(2);
    expect([...removal.keep]).toEqual([2, 3, 4, 5]);
    // Columns 3 and 4 are repaired, 2 and 5 belong to no group.
    expect([...removal.weight!]).toEqual([2, 103, 104, 5, 2, 103, 104, 5]);
    expect([...removal.bias!]).toEqual([2, 20]);
  });

  it('does not repair a group that loses nothing', async () => {
    const groups = [
      { units: Int32Array.of(0, 1, 2), statistics: statisticsOf(3) },
      { units: Int32Array.of(3), statistics: statisticsOf(1) },
    ];
    const { keep, weight, bias } = await (await scoreCase({ module: moduleOf(4), groups })).remove(1);
    expect([...keep]).toEqual([1, 2, 3]);
    expect([...weight!]).toEqual([101, 102, 3, 101, 102, 3]);
    expect([...bias!]).toEqual([1, 10]);
  });

  it('reads a transposed weight by its strides', async () => {
    const stored = ndarray(Float32Array.of(1, -1, 2, -2, 3, -3), [3, 2]).transpose(1, 0);
    const scored = await scoreCase({ module: moduleOf(3), weight: stored, adapter: createAdapter('flap') });
    const { keep, bias } = await scored.remove(1);
    expect([...keep]).toEqual([1, 2]);
    expect([...bias!]).toEqual([1, -1]);
  });

  it('names the block in numerical errors', async () => {
    const failing: CompensationAdapter = {
      needs: 'moments',
      prepare: () => {
        throw new NumericalError('the importance of unit 5 is NaN');
      },
    };
    const scoring = scoreCase({ module: moduleOf(3), adapter: failing });
    await expect(scoring).rejects.toThrow(NumericalError);
    await expect(scoring).rejects.toThrow('block 3 ffn: the importance of unit 5 is NaN');
  });

  const scores = Float64Array.of(0, 1, 2);
  it.each([
    ['too few scores', { scores: Float64Array.of(1), compensate: () => ({}) }, '1 scores for 3 units'],
    ['a score of NaN', { scores: Float64Array.of(1, NaN, 2), compensate: () => ({}) }, 'unit 1 the score NaN'],
    ['a repair too short', { scores, compensate: () => ({ weight: new Float32Array(3) }) }, '[2, 2], 4'],
    ['a bias too long', { scores, compensate: () => ({ bias: new Float64Array(3) }) }, 'length 3; expected 2'],
    ['nothing', undefined as never, 'prepared no compensate'],
    ['no scores', { compensate: () => ({}) } as never, 'no scores for 3 units'],
    ['no repair', { scores, compensate: () => undefined as never }, 'compensate gave undefined; expected { weight'],
  ] as const)("refuses a user's method that gives %s", async (_, prepared: PreparedImportance, message) => {
    const adapter: CompensationAdapter = { needs: 'moments', prepare: () => prepared };
    const removing = scoreCase({ module: moduleOf(3), adapter }).then((scored) => scored.remove(1));
    await expect(removing).rejects.toThrow(OptionError);
    await expect(removing).rejects.toThrow(message);
  });

  it.each([
    ['NaN', { weight: Float32Array.of(1, 2, 3, NaN) }, 'the repair of output 1 has the weight NaN'],
    ['infinity', { bias: Float64Array.of(0, Infinity) }, 'the repair of output 1 has the bias Infinity'],
    // A user may return any array.
    ['a number beyond float32', { weight: [1, 1e39, 3, 4] as never }, 'the repair of output 0 has the weight 1e+39'],
  ] as const)('refuses a repair with %s', async (_, repair, message) => {
    const adapter: CompensationAdapter = { needs: 'moments', prepare: () => ({ scores, compensate: () => repair }) };
    const removing = scoreCase({ module: moduleOf(3), adapter }).then((scored) => scored.remove(1));
    await expect(removing).rejects.toThrow(NumericalError);
    await expect(removing).rejects.toThrow(`block 3 ffn: ${message}`);
  });
});

it('channelsOf lists the channels of units in order', () => {
  expect([...channelsOf(moduleOf(4, 3), Int32Array.of(1, 3))]).toEqual([3, 4, 5, 9, 10, 11]);
});
