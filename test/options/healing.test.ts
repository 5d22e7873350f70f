import { heal } from '../../src/node.js';
import { countHeldOut, healingCalibration, resolveHealing } from '../../src/options/healing.js';
import { resolveCalibration } from '../../src/options.js';

const settings = resolveHealing(true)!;

it('holds out one window for every sixteen, from two to sixteen', () => {
  expect([1, 40, 64, 256, 1000].map((windowCount) => countHeldOut({ windowCount }))).toEqual([2, 3, 4, 16, 16]);
});

it('calibrates on windows of its own number and share', () => {
  const calibration = resolveCalibration({ windowCount: 8, windowLength: 64 });
  const own = healingCalibration(calibration, settings);
  expect(own).toMatchObject({ windowCount: 68, windowLength: 64, generate: { share: 1 }, generateIfPossible: true });
  expect(healingCalibration(calibration, { ...settings, share: 0 }).generate).toBeUndefined();
});

it('must generate the windows if a file for them is named', () => {
  const calibration = resolveCalibration({ generate: { file: 'windows.jsonl' } });
  expect(healingCalibration(calibration, settings)).toMatchObject({
    generate: { file: 'windows.jsonl', share: 1 },
    generateIfPossible: false,
  });
});

it.each([
  [{ calibration: { generate: false } }, /^calibration\.generate contradicts heal\.share, which is 1; leave one/],
  [
    { calibration: { generate: { startToken: 3 } }, heal: { share: 0 } },
    /generate contradicts heal\.share, which is 0/,
  ],
])('refuses %j before a model is opened', async (given, message) => {
  const [dense, pruned, out] = ['/nowhere/dense', '/nowhere/pruned', '/nowhere/out'];
  await expect(heal({ dense, pruned, out, ...given })).rejects.toThrow(message);
});
