import { formatSideFiles } from '../../src/cli/format-run.js';

const names = (count: number) => Array.from({ length: count }, (_, at) => `f${at}`);

it.each([
  [{ copied: ['a', 'b'], leftCount: 0 }, 'Copied next to it: a, b.\n'],
  [{ copied: names(8), leftCount: 0 }, 'Copied next to it: f0, f1, f2, f3, f4, f5 and 2 more.\n'],
  [{ copied: [], left: ['x', 'y'], leftCount: 5 }, 'Not copied: x, y and 3 more.\n'],
  [{ copied: ['a'], leftCount: 1 }, 'Copied next to it: a.\nNot copied: 1 file or folder.\n'],
  [{ copied: [], leftCount: 2 }, 'Not copied: 2 files and folders.\n'],
])('lists at most six files next to the model, and counts the others: %j', (sideFiles, expected) => {
  expect(formatSideFiles(sideFiles)).toEqual([expected]);
});

it('prints nothing without files next to the model', () => {
  expect(formatSideFiles({ copied: [], leftCount: 0 })).toEqual([]);
  expect(formatSideFiles(undefined)).toEqual([]);
});
