import { readUnitBits, writeUnitBits } from '../../src/report/unit-bits.js';

it('writes units as bits from left to right, four per hexadecimal digit', () => {
  expect(writeUnitBits([0, 5, 6, 9], 10)).toBe('864');
  expect(writeUnitBits([], 3)).toBe('0');
  expect(readUnitBits('864', 10)).toEqual([0, 5, 6, 9]);
});

it.each([1, 4, 7, 90, 768])('reads what it wrote: %d units', (count) => {
  const units = Array.from({ length: count }, (_, unit) => unit).filter((unit) => (unit * unit + unit) % 7 < 4);
  expect(readUnitBits(writeUnitBits(units, count), count)).toEqual(units);
});

it.each([
  ['of other lengths', '86', 10],
  ['with a unit that does not exist', '862', 10],
  ['that are not hexadecimal', '8g4', 10],
  ['in capitals', '8A0', 10],
  ['in a number', 864, 10],
])('refuses digits %s', (_, text, count) => {
  expect(readUnitBits(text, count)).toBeUndefined();
});
