import { OptionError } from '../src/errors.js';
import { parseJson } from '../src/parse-json.js';
import { printable } from '../src/printable.js';

it('escapes control characters of terminals and bidirectional overrides, and nothing else', () => {
  expect(printable('\u001b]0;title\u0007 \u009b2J \r\n\té 中 😀 \u202eabc')).toBe(
    '\\u001b]0;title\\u0007 \\u009b2J \\u000d\n\té 中 😀 \\u202eabc',
  );
});

it('escapes and truncates messages of typed errors, and keeps beginning and end', () => {
  const { message } = new OptionError(`begins \u001b[31m${'x'.repeat(100_000)} ends`);
  expect(message).toMatch(/^begins \\u001b\[31mx+\.\.\. ends$/);
  expect(message.length).toBeLessThan(200);
  const { message: many } = new OptionError(`begins ${'x '.repeat(100_000)}ends`);
  expect(many).toMatch(/^begins [x ]+\.\.\.[x ]+ends$/);
  expect(many.length).toBeLessThan(4100);
});

it('reads JSON of at most 100 levels, whatever its strings contain', () => {
  const nested = (depth: number) => `${'['.repeat(depth)}"\\"[[{{"${']'.repeat(depth)}`;
  expect(JSON.stringify(parseJson(nested(100)))).toBe(nested(100));
  expect(() => parseJson(nested(101))).toThrow('nested deeper than 100');
  expect(parseJson(`{"a":"${'['.repeat(1000)}"}`)).toEqual({ a: '['.repeat(1000) });
});
