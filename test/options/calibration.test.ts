import { OptionError } from '../../src/errors.js';
import { CALIBRATION } from '../../src/options/calibration.js';
import { checkOptions } from '../../src/options/option.js';
import { resolveRequest } from '../../src/options/request.js';
import { type CalibrationOptions, resolveCalibration } from '../../src/options.js';

const resolveChecked = (calibration: CalibrationOptions) =>
  resolveCalibration(checkOptions({ calibration }, CALIBRATION).calibration);
const resolveGenerate = (generate: CalibrationOptions['generate']) => resolveChecked({ generate }).generate;

describe('generated windows', () => {
  it('fills in temperature and document length, not what depends on the model', () => {
    expect(resolveGenerate(true)).toEqual({ temperature: 1, documentLength: 128 });
    expect(resolveGenerate({ share: 1, startToken: 0, temperature: 0.1 })).toEqual({
      share: 1,
      startToken: 0,
      temperature: 0.1,
      documentLength: 128,
    });
    expect(resolveGenerate(false)).toBeUndefined();
  });

  it.each([
    [{ share: 0 }, /share is 0; .*above 0 to 1/],
    [{ share: 1.1 }, /share is 1.1/],
    [{ temperature: 0 }, /temperature is 0; .*at least 0.1/],
    [{ temperature: 0.01 }, /temperature is 0.01/],
    [{ documentLength: 1 }, /documentLength is 1; .*at least 2/],
    [{ temperature: Number.POSITIVE_INFINITY }, /temperature/],
    [{ startToken: -1 }, /startToken is -1/],
    [{ startToken: '<s>' }, /startToken is "<s>"/],
    [{ batchSize: 2 }, /^calibration.generate.batchSize was removed: leave it out; the library decides it$/],
    [{ seed: 1.5 }, /seed is 1.5/],
    [{ file: 'windows.txt' }, /file is "windows.txt"; .*\.jsonl/],
    [{ topK: 5 }, /unknown option "calibration.generate.topK"; expected one of share, temperature/],
    [null, /generate is null/],
    [{ starToken: 5 }, /unknown option "calibration.generate.starToken"; did you mean "startToken"\?/],
    ['half', /generate is "half"; expected true or false, or an object such as/],
  ])('refuses %j', (given, message) => {
    const resolve = () => resolveGenerate(given as CalibrationOptions['generate']);
    expect(resolve).toThrow(OptionError);
    expect(resolve).toThrow(message);
  });
});

it('defaults to fewer windows where only rounding reads them, generated ones if possible', () => {
  const request = { model: 'in', out: 'out', dtype: 'q4', method: 'magnitude' } as const;
  const rounded = resolveRequest({ ...request, sparsity: 0 }).calibration;
  expect(rounded).toMatchObject({ windowCount: 16, generate: { temperature: 1 }, generateIfPossible: true });
  const requested = { windowCount: 40, generate: true };
  const given = resolveRequest({ ...request, sparsity: 0, calibration: requested }).calibration;
  expect(given).toMatchObject({ windowCount: 40, generateIfPossible: false });
  const pruned = resolveRequest({ ...request, method: 'flap', sparsity: 0.3 }).calibration;
  expect(pruned).toMatchObject({ windowCount: 64, generate: undefined });
});

it.each(['magnitude', 'flap', 'auto'] as const)('has the same defaults for every rung of a ladder (%s)', (method) => {
  const calibrationAt = (sparsity: number | readonly number[]) =>
    resolveRequest({ model: 'in', out: 'out', dtype: 'q4', method, sparsity }).calibration;
  const ladder = calibrationAt([0, 0.3]);
  expect(calibrationAt(0)).toEqual(ladder);
  expect(calibrationAt(0.3)).toEqual(ladder);
});

describe('calibration', () => {
  it.each<[unknown, RegExp]>([
    ['x.txt', /^calibration is "x.txt"; expected an object such as \{ source: \{ file: "texts.txt" \} \}$/],
    [{ windows: 5 }, /^unknown option "calibration.windows"; expected one of source, windowCount, /],
    [{ windowCout: 5 }, /^unknown option "calibration.windowCout"; did you mean "windowCount"\?$/],
    [{ windowLength: 1 }, /^calibration.windowLength is 1; expected an integer of at least 2$/],
    [{ selection: 'last' }, /^calibration.selection is "last"; expected one of first, sample$/],
    [{ source: 'x.txt' }, /^calibration.source is "x.txt"; expected an object with one of file, text, tokens, jsonl/],
    [{ source: { file: 3 } }, /^calibration.source is \{"file":3\}; expected/],
    [{ source: { text: 5 } }, /^calibration.source is \{"text":5\}; expected/],
    [{ source: { jsonl: 'a.jsonl' } }, /^calibration.source is \{"jsonl":"a.jsonl"\}; expected/],
    [{ source: { text: 'a', jsonl: [] } }, /^calibration.source is .* expected an object with one of/],
  ])('refuses %j', (given, message) => {
    const resolve = () => resolveChecked(given as CalibrationOptions);
    expect(resolve).toThrow(OptionError);
    expect(resolve).toThrow(message);
  });
});
