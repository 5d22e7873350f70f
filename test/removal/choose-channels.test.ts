import { OptionError } from '../../src/errors.js';
import { createRandom } from '../../src/linalg/random.js';
import { chooseChannels, shareRemovals } from '../../src/removal/choose-channels.js';
import { chooseHeads } from '../../src/removal/choose-heads.js';

describe('chooseChannels', () => {
  it('removes the lowest scores of one group, the lower index first if they are equal', () => {
    const groups = [{ units: [0, 1, 2, 3, 4], scores: [5, 1, 3, 1, 1] }];
    const { keep, remove } = chooseChannels({ unitCount: 5, groups, removeCount: 2 });
    expect([...remove]).toEqual([1, 3]);
    expect([...keep]).toEqual([0, 2, 4]);
  });

  it('removes the same fraction of every function group and none of the shared one (Eq. 7)', () => {
    // 8 groups of 8 of 64 neurons; the first is shared. s = 0.25: 16 of the 56 others.
    const groups = Array.from({ length: 7 }, (_, k) => {
      const units = Array.from({ length: 8 }, (_unused, i) => 8 + k * 8 + i);
      return { units, scores: units.map((unit) => (unit * 37) % 64) };
    });
    const { keep, remove, removedPerGroup, overflow } = chooseChannels({ unitCount: 64, groups, removeCount: 16 });
    expect(remove).toHaveLength(16);
    expect(keep).toHaveLength(48);
    expect([...keep.subarray(0, 8)]).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
    expect(removedPerGroup).toEqual([3, 3, 2, 2, 2, 2, 2]);
    expect(overflow).toBe(0);
  });

  it('returns as overflow what no group can lose', () => {
    const groups = [{ units: [2, 3], scores: [1, 2] }];
    const { keep, overflow } = chooseChannels({ unitCount: 4, groups, removeCount: 3 });
    expect([...keep]).toEqual([0, 1]);
    expect(overflow).toBe(1);
    expect(chooseChannels({ unitCount: 4, groups, removeCount: 2, minimumPerGroup: 1 }).overflow).toBe(1);
  });

  it('removes nothing for a count of 0', () => {
    const { keep, remove } = chooseChannels({
      unitCount: 3,
      groups: [{ units: [0, 1, 2], scores: [0, 0, 0] }],
      removeCount: 0,
    });
    expect([...keep]).toEqual([0, 1, 2]);
    expect(remove).toHaveLength(0);
  });

  it('refuses overlapping or out-of-range groups, missing scores and invalid counts', () => {
    const choose = (groups: { units: number[]; scores: number[] }[], removeCount = 1) =>
      chooseChannels({ unitCount: 3, groups, removeCount });
    expect(() =>
      choose([
        { units: [0, 1], scores: [1, 1] },
        { units: [1], scores: [1] },
      ]),
    ).toThrow(/unit 1 is listed twice/);
    expect(() => choose([{ units: [3], scores: [1] }])).toThrow(/unit 3; units are 0..2/);
    expect(() => choose([{ units: [0, 1], scores: [1] }])).toThrow(/2 units and 1 scores/);
    expect(() => choose([{ units: [0], scores: [Number.NaN] }])).toThrow(OptionError);
    for (const count of [-1, 0.5, Number.NaN])
      expect(() => choose([{ units: [0], scores: [1] }], count)).toThrow(OptionError);
  });
});

describe('shareRemovals', () => {
  it('sums to the total, is proportional within one unit, and at most the sizes', () => {
    const random = createRandom(8);
    for (let trial = 0; trial < 200; trial++) {
      const sizes = Array.from({ length: 7 }, () => 1 + Math.floor(random() * 9));
      const total = sizes.reduce((sum, size) => sum + size, 0);
      const removeCount = Math.floor(random() * (total + 1));
      const { counts, overflow } = shareRemovals(sizes, removeCount);
      expect(counts.reduce((sum, count) => sum + count, 0)).toBe(removeCount);
      expect(overflow).toBe(0);
      counts.forEach((count, index) => {
        expect(count).toBeLessThanOrEqual(sizes[index]!);
        expect(Math.abs(count - (removeCount * sizes[index]!) / total)).toBeLessThan(1);
      });
    }
  });

  it('removes from other groups what a small group may not lose', () => {
    expect(shareRemovals([2, 8], 8, 1)).toEqual({ counts: [1, 7], overflow: 0 });
    expect(shareRemovals([2, 8], 10, 1)).toEqual({ counts: [1, 7], overflow: 2 });
    expect(shareRemovals([], 2)).toEqual({ counts: [], overflow: 2 });
  });
});

describe('chooseHeads', () => {
  const gqa = { scores: [1, 9, 2, 2, 8, 0, 3, 3], groupOfHead: [0, 0, 1, 1, 2, 2, 3, 3], groupCount: 4 };

  it('removes whole KV groups by the sum of their heads', () => {
    const choice = chooseHeads({ ...gqa, headUnit: 'group', removeCount: 2 });
    expect([...choice.remove]).toEqual([2, 3, 6, 7]);
    expect([...choice.keep]).toEqual([0, 1, 4, 5]);
    expect([...choice.keepGroups]).toEqual([0, 2]);
    expect(choice.removedPerGroup).toEqual([0, 2, 0, 2]);
  });

  it('removes one query head of every group', () => {
    const choice = chooseHeads({ ...gqa, headUnit: 'query', removeCount: 1 });
    expect([...choice.remove]).toEqual([0, 2, 5, 6]);
    expect([...choice.keepGroups]).toEqual([0, 1, 2, 3]);
    expect(choice.removedPerGroup).toEqual([1, 1, 1, 1]);
  });

  it('never leaves a block without a KV group, or a group without a head', () => {
    const groups = chooseHeads({ ...gqa, headUnit: 'group', removeCount: 4 });
    expect([...groups.keepGroups]).toEqual([0]);
    expect(groups.overflow).toBe(2);
    const queries = chooseHeads({ ...gqa, headUnit: 'query', removeCount: 2 });
    expect([...queries.keep]).toEqual([1, 3, 4, 7]);
    expect(queries.overflow).toBe(4);
  });

  it('keeps the order of heads if groups interleave', () => {
    const choice = chooseHeads({
      scores: [1, 5, 1, 5],
      groupOfHead: [0, 1, 0, 1],
      groupCount: 2,
      headUnit: 'group',
      removeCount: 1,
    });
    expect([...choice.remove]).toEqual([0, 2]);
    expect([...choice.keep]).toEqual([1, 3]);
  });

  it('treats multi-head attention as groups of one', () => {
    const mha = { scores: [3, 1, 2], groupOfHead: [0, 1, 2], groupCount: 3 };
    expect([...chooseHeads({ ...mha, headUnit: 'group', removeCount: 1 }).remove]).toEqual([1]);
  });

  it('refuses heads of unknown or unequal groups', () => {
    const invalid = { scores: [1, 2, 3], headUnit: 'group', removeCount: 1 } as const;
    expect(() => chooseHeads({ ...invalid, groupOfHead: [0, 1, 2], groupCount: 2 })).toThrow(OptionError);
    expect(() => chooseHeads({ ...invalid, groupOfHead: [0, 0, 1], groupCount: 2 })).toThrow(/differ in size/);
  });
});
