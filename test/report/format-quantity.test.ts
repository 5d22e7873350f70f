import { formatBytes, formatCount, formatDuration, formatPercent } from '../../src/report/format-quantity.js';

it.each([
  [formatCount, 0, '0'],
  [formatCount, 999, '999'],
  [formatCount, 2_828_736, '2.83 M'],
  [formatCount, 6_738_415_616, '6.74 G'],
  [formatBytes, 512, '512 B'],
  [formatBytes, 11_566_780, '11.6 MB'],
  [formatPercent, 0.3, '30 %'],
  [formatPercent, -0.12345, '-12.35 %'],
  [formatDuration, 0, '0.0 s'],
  [formatDuration, 59_400, '59 s'],
  [formatDuration, 83_000, '1 min 23 s'],
  [formatDuration, 7_260_000, '2 h 1 min'],
] as const)('%p(%d) is %s', (format, value, text) => {
  expect(format(value)).toBe(text);
});
