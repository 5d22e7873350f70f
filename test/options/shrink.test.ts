import { bytesOfSize, resolveShrink } from '../../src/options/shrink.js';

it.each([
  ['60MB', 60_000_000],
  ['60 mb', 60_000_000],
  ['57MiB', 57 * 2 ** 20],
  ['1.2GB', 1_200_000_000],
  ['512 KiB', 524_288],
  ['2GiB', 2 * 2 ** 30],
  ['7kB', 7000],
  ['9 B', 9],
  ['100', 100],
  [1234, 1234],
  [12.7, 12],
])('reads %j as %i bytes', (size, bytes) => expect(bytesOfSize(size)).toBe(bytes));

it.each([
  '',
  'MB',
  '60 apples',
  '-1MB',
  '1e3MB',
  '0',
  0,
  -1,
  Number.NaN,
  Infinity,
  null,
  undefined,
  {},
  Object.create(null),
  Symbol('60MB'),
])('returns undefined for %p', (size) => expect(bytesOfSize(size)).toBeUndefined());

it('requires contextLength for targetMemory, and only for it', () => {
  expect(resolveShrink({ targetMemory: '1GB', contextLength: 2048 })).toMatchObject({
    option: 'targetMemory',
    contextLength: 2048,
    targets: [{ bytes: 1e9, name: '1GB' }],
  });
  expect(() => resolveShrink({ targetMemory: '1GB' })).toThrow('contextLength is missing');
  expect(() => resolveShrink({ targetSize: '1GB', contextLength: 9 })).toThrow('contextLength has no effect');
  expect(() => resolveShrink({ targetSize: '1GB', targetMemory: '2GB', contextLength: 9 })).toThrow('name two sizes');
});

it('sorts dtypes by descending bits, and has none if bits are not allowed', () => {
  expect(resolveShrink({ targetSize: 1, dtypes: ['q2', 'q8', 'q4'] }).dtypes).toEqual(['q8', 'q4', 'q2']);
  expect(resolveShrink({ targetSize: 1, allow: ['heads'] }).dtypes).toEqual([]);
});
