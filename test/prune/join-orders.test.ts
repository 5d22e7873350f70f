import type { PrunableModule } from '../../src/architecture/layout.js';
import { joinOrders } from '../../src/prune/measure-dense/join-orders.js';

const heads = (index: number, part: Partial<PrunableModule>): PrunableModule =>
  ({
    index,
    kind: 'attention',
    unitCount: 4,
    groupOfUnit: Int32Array.of(0, 0, 1, 1),
    groupCount: 2,
    ...part,
  }) as PrunableModule;

const order = (scores: readonly number[], costs: readonly number[]) => ({
  scores: Float64Array.from(scores),
  costs: Float64Array.from(costs),
});

it('orders heads of modules with shared keys and values by the sum of their costs', () => {
  const [makes, reads, other] = [
    heads(0, { keyValueSource: 0 }),
    heads(1, { keyValueSource: 0 }),
    heads(2, {}),
  ] as const;
  const orders = new Map([
    [makes, order([1, 1, 2, 2], [3, 4])],
    [reads, order([9, 9, 5, 5], [1, 8])],
    [other, order([1, 1, 2, 2], [3, 4])],
  ]);
  const joined = joinOrders(orders, [makes, reads, other], 'group');
  // The first KV head costs 3 where it is made and 8 where it is read, the second one 4 and 1.
  for (const module of [makes, reads]) expect([...joined.get(module)!.scores]).toEqual([11, 11, 5, 5]);
  expect([...joined.get(makes)!.costs]).toEqual([4, 3]);
  expect([...joined.get(reads)!.costs]).toEqual([1, 8]);
  expect(joined.get(other)).toBe(orders.get(other));
  expect(joinOrders(orders, [makes, reads, other], 'query')).toEqual(orders);
});
