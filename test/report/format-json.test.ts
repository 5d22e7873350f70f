import { formatJson } from '../../src/report/format-json.js';

it('keeps lists of plain values and short objects on one line', () => {
  const value = { a: [1, 2, 3], b: { c: 'x', d: null }, e: [{ f: [] }, [[0.5]]], g: {} };
  expect(formatJson(value)).toBe(
    `{
  "a": [1, 2, 3],
  "b": { "c": "x", "d": null },
  "e": [
    {
      "f": []
    },
    [
      [0.5]
    ]
  ],
  "g": {}
}
`,
  );
});

it('is parsed to the same value, whatever its strings contain', () => {
  const value = {
    'a "b"': ['[ 1,\n 2 ]', '</script>', '\u2028', '\\', ''],
    deep: [{ list: [1e-7, -0.1, 1e21], text: '{ "x": 1 }' }],
    long: { text: 'x'.repeat(200), other: true },
  };
  expect(JSON.parse(formatJson(value))).toEqual(value);
});

it('omits undefined fields', () => {
  expect(JSON.parse(formatJson({ a: undefined, b: 1, c: [undefined] }))).toEqual({ b: 1, c: [null] });
});
