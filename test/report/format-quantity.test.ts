import {
  formatBytes,
  formatCount,
  formatDuration,
  formatExactPercent,
  formatPercent,
} from '../../src/report/format-quantity.js';

it.each([
  [formatCount, 0, '0'],
  [formatCount, 999, '999'],
  [formatCount, 2_828_736, '2.83 M'],
  [formatCount, 6_738_415_616, '6.74 G'],
  [formatBytes, 512, '512 B'],
  [formatBytes, 11_566_780, '11.6 MB'],
  [formatCount, 2_100_400, '2.10 M'],
  [formatCount, 75_000_000, '75.0 M'],
  [formatCount, 999_999, '1.00 M'],
  [formatBytes, 9_000_000, '9.00 MB'],
  [formatPercent, 0.2998, '30.0 %'],
  [formatPercent, -0.12345, '-12.3 %'],
  [formatExactPercent, 0.3, '30 %'],
  [formatExactPercent, 0.12345, '12.345 %'],
  [formatDuration, 0, '0.0 s'],
  [formatDuration, 59_400, '59 s'],
  [formatDuration, 83_000, '1 min 23 s'],
  [formatDuration, 7_260_000, '2 h 1 min'],
] as const)('%p(%d) is %s', (format, value, text) => {
  expect(format(value)).toBe(text);
});
