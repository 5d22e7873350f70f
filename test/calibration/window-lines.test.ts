import { createCalibrationSet } from '../../src/calibration/calibration-set.js';
import { formatOriginLine, formatWindowLine, parseWindowLines } from '../../src/calibration/window-lines.js';
import { OptionError } from '../../src/errors.js';

const origin = { modelSha256: 'ab12', seed: 3, startToken: 7, temperature: 1, documentLength: 128, windowLength: 4 };
const windows = [
  [7, 1, 2, 3],
  [7, 4, 5, 6],
].map((ids) => Int32Array.from(ids));
const content = formatOriginLine(origin) + windows.map(formatWindowLine).join('');
const parse = (text: string, other = {}) => parseWindowLines(text, { ...origin, ...other }, 'w.jsonl');

it('parses the lines that it formatted', () => {
  expect(parse(content)).toEqual({ windows, completeBytes: content.length });
  expect(parse('')).toEqual({ windows: [], completeBytes: 0 });
});

it.each([1, 10, 30])('ignores a line whose last %i characters are missing', (missing) => {
  const { windows: whole, completeBytes } = parse(content.slice(0, -missing));
  expect(whole).toEqual(windows.slice(0, 1));
  expect(content.slice(0, completeBytes)).toBe(formatOriginLine(origin) + formatWindowLine(windows[0]!, 0));
});

it.each([
  ['another model', { modelSha256: 'cd34' }, /modelSha256 "ab12" \(here "cd34"\)/],
  ['another seed and temperature', { seed: 4, temperature: 0.8 }, /seed 3 \(here 4\), temperature 1 \(here 0.8\)/],
  ['longer documents', { documentLength: 512 }, /documentLength 128 \(here 512\)/],
  ['another length', { windowLength: 8 }, /windowLength 4 \(here 8\)/],
  ['another start', { startToken: 0 }, /startToken 7 \(here 0\)/],
])('refuses the windows of %s', (_, other, message) => {
  expect(() => parse(content, other)).toThrow(OptionError);
  expect(() => parse(content, other)).toThrow(message);
});

it.each([
  ['a calibration text', '{"text": "Hello"}\n', /does not begin like/],
  ['a text without a line break', '{"text": "Hello"}', /does not begin like/],
  ['a text that is not JSON', 'Hello\n', /line 1, is not JSON/],
  ['a window twice', content + formatWindowLine(windows[1]!, 1), /line 4 is not window 2 .*two runs/],
  [
    'a short window',
    formatOriginLine(origin) + formatWindowLine(Int32Array.of(7, 1), 0),
    /line 2 is not window 0 of 4/,
  ],
  [
    'a window that begins with another token',
    content.replace('[7,4', '[6,4'),
    /line 3 is not window 1 .* from token 7/,
  ],
  ['an id beyond 31 bits', content.replace('5,', '4294967299,'), /line 3 is not window 1/],
  ['a negative id', content.replace('5,', '-5,'), /line 3 is not window 1/],
])('refuses %s', (_, text, message) => {
  expect(() => parse(text)).toThrow(OptionError);
  expect(() => parse(text)).toThrow(message);
});

it('begins again after a first line that was interrupted', () => {
  for (const length of [0, 5, 40]) {
    const cut = formatOriginLine({ ...origin, seed: 4 }).slice(0, length);
    expect(parse(cut)).toEqual({ windows: [], completeBytes: 0 });
  }
});

it('refuses a token outside the vocabulary', () => {
  expect(parse(content, { vocabularySize: 8 }).windows).toEqual(windows);
  expect(() => parse(content, { vocabularySize: 6 })).toThrow(/line 2 is not window 0 of 4 tokens below 6/);
});

it('is readable as a calibration source', async () => {
  const set = await createCalibrationSet({ source: { jsonl: content.split('\n') }, windowCount: 9, windowLength: 4 });
  expect(set.windows).toEqual(windows);
});
