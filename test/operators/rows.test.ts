import { OPERATORS } from '../../src/operators/table.js';
import { sourceFiles } from '../support/read-imports.js';

const PARTS = [
  ...[
    'axis',
    'update',
    'needsSizes',
    'tokens',
    'gradient',
    'parameters',
    'cache',
    'positionTable',
    'weight',
    'split',
    'run',
    'refusal',
  ],
].sort();

const rows = Object.entries(OPERATORS);

it.each(rows)('%s has every part', (_, operator) => {
  expect(Object.keys(operator).sort()).toEqual(PARTS);
  expect(Object.values(operator)).not.toContain(undefined);
});

it('gives a reason for every missing part', () => {
  const reasons = rows.flatMap(([name, { axis, gradient }]) =>
    [axis, gradient].flatMap((part) => (typeof part === 'object' && 'missing' in part ? [[name, part.missing]] : [])),
  );
  expect(reasons.length).toBeGreaterThan(0);
  expect(reasons.filter(([, reason]) => (reason?.length ?? 0) < 10)).toEqual([]);
});

it('contains each operator once', async () => {
  const families = await Promise.all(
    sourceFiles()
      .filter((file) => file.startsWith('src/operators/') && file !== 'src/operators/table.ts')
      .map((file): Promise<object> => import(`../../${file.replace(/ts$/, 'js')}`)),
  );
  const isFamily = (value: unknown) => Object.values(Object(value)).every((row) => Object.hasOwn(Object(row), 'axis'));
  const found = families
    .flatMap((family) => Object.entries(family))
    .filter(
      ([name, value]) => /^[A-Z_]+$/.test(name) && name !== 'PLAIN' && typeof value === 'object' && isFamily(value),
    )
    .flatMap(([, value]) => Object.keys(value));
  expect(found.sort()).toEqual(Object.keys(OPERATORS).sort());
});

it('every operator with a cache mixes tokens', () => {
  const hasCache = rows.filter(([, { cache }]) => cache !== 'none').map(([name]) => name);
  const attends = rows.filter(([, { tokens }]) => typeof tokens === 'object').map(([name]) => name);
  expect(attends).toEqual(expect.arrayContaining(hasCache));
});
