import { OptionError } from '../../src/errors.js';
import { holdingMap } from '../../src/web/holding-map.js';

it('lets one call at a time write into a map', async () => {
  const [out, other] = [new Map(), new Map()];
  await holdingMap({ out }, async () => {
    await expect(holdingMap({ out }, async () => 1)).rejects.toThrow(OptionError);
    expect(await holdingMap({ out: other }, async () => 2)).toBe(2);
    expect(await holdingMap({ out: '/a/path' }, async () => 3)).toBe(3);
  });
  await expect(holdingMap({ out }, () => Promise.reject(new Error('broken')))).rejects.toThrow('broken');
  expect(await holdingMap({ out }, async () => 4)).toBe(4);
});
