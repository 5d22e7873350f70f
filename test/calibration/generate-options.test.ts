import { type GenerateOptions, resolveGenerate } from '../../src/calibration/generate-options.js';
import { OptionError } from '../../src/errors.js';

describe('resolveGenerate', () => {
  it('fills in the temperature and leaves open what depends on the model', () => {
    expect(resolveGenerate(true)).toEqual({ temperature: 1 });
    expect(resolveGenerate({ share: 1, startToken: 0, temperature: 0.1 })).toEqual({
      share: 1,
      startToken: 0,
      temperature: 0.1,
    });
    expect(resolveGenerate(false)).toBeUndefined();
  });

  it.each([
    [{ share: 0 }, /share is 0; .*above 0 to 1/],
    [{ share: 1.1 }, /share is 1.1/],
    [{ temperature: 0 }, /temperature is 0; .*at least 0.1/],
    [{ temperature: 0.01 }, /temperature is 0.01/],
    [{ temperature: Number.POSITIVE_INFINITY }, /temperature/],
    [{ startToken: -1 }, /startToken is -1/],
    [{ startToken: '<s>' }, /startToken is "<s>"/],
    [{ batchSize: 0 }, /batchSize is 0/],
    [{ seed: 1.5 }, /seed is 1.5/],
    [{ file: 'windows.txt' }, /file is "windows.txt"; .*\.jsonl/],
    [{ topK: 5 }, /topK is unknown; expected share, temperature/],
    [null, /generate is null/],
    ['half', /generate is half/],
  ])('refuses %j', (given, message) => {
    const resolve = () => resolveGenerate(given as GenerateOptions);
    expect(resolve).toThrow(OptionError);
    expect(resolve).toThrow(message);
  });
});
