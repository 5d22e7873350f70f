import { removedChannels } from '../../src/compensation/removed-channels.js';
import { OptionError } from '../../src/errors.js';

describe('removedChannels', () => {
  it('lists the channels that are not kept', () => {
    expect([...removedChannels(Int32Array.of(1, 3), 5)]).toEqual([0, 2, 4]);
    expect(removedChannels(Int32Array.of(0, 1), 2)).toHaveLength(0);
  });

  it('refuses indices that are out of order or out of range', () => {
    for (const keep of [[1, 1], [2, 1], [-1], [5]]) {
      expect(() => removedChannels(Int32Array.from(keep), 5)).toThrow(OptionError);
    }
  });
});
