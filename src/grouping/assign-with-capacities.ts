import { OptionError } from '../errors.js';

/** What every bin must and may hold. */
export interface Capacities {
  /** Length `binCount`. */
  readonly minimum: ArrayLike<number>;
  /** Length `binCount`. */
  readonly maximum: ArrayLike<number>;
}

/**
 * Assigns every item to one bin at the least total cost, with a lower and an upper bound on each bin's size. Exact: a
 * minimum-cost flow by successive shortest paths, on a graph that has only the bins as nodes. Meant for few bins and
 * many items: `O(items log items bins^2)` when few items must move.
 *
 * @param costs `[itemCount, binCount]`, row-major; any finite numbers.
 * @returns Bin of each item. Equal costs prefer the lower bin.
 * @throws OptionError when the bounds admit no assignment.
 */
export function assignWithCapacities(costs: Float64Array, binCount: number, capacities: Capacities): Int32Array {
  const itemCount = costs.length / binCount;
  checkCapacities(itemCount, binCount, capacities);
  const binOf = new Int32Array(itemCount);
  const sizes = new Int32Array(binCount);
  const queues = createMoveQueues(costs, binCount, binOf);
  for (let item = 0; item < itemCount; item++) {
    binOf[item] = cheapestBin(costs, binCount, item);
    sizes[binOf[item]!]!++;
  }
  for (let item = 0; item < itemCount; item++) queues.add(item);
  const bins = Array.from({ length: binCount }, (_, bin) => bin);
  const move = (sources: readonly number[], targets: readonly number[]) => {
    const path = shortestPath(queues, { binCount, sources, targets });
    for (let step = 0; step + 1 < path.length; step++) {
      const item = queues.cheapest(path[step]!, path[step + 1]!)!.item;
      binOf[item] = path[step + 1]!;
      queues.add(item);
    }
    sizes[path[0]!]!--;
    sizes[path.at(-1)!]!++;
  };
  for (const bin of bins) {
    while (sizes[bin]! > capacities.maximum[bin]!)
      move(
        [bin],
        bins.filter((b) => sizes[b]! < capacities.maximum[b]!),
      );
  }
  for (const bin of bins) {
    while (sizes[bin]! < capacities.minimum[bin]!)
      move(
        bins.filter((b) => sizes[b]! > capacities.minimum[b]!),
        [bin],
      );
  }
  return binOf;
}

interface Move {
  readonly item: number;
  readonly cost: number;
}

/** Cheapest item to move between each pair of bins; items that have left a bin are dropped when they come to the top. */
interface MoveQueues {
  add(item: number): void;
  cheapest(from: number, to: number): Move | undefined;
}

function createMoveQueues(costs: Float64Array, binCount: number, binOf: Int32Array): MoveQueues {
  const heaps: Move[][] = Array.from({ length: binCount * binCount }, () => []);
  return {
    add(item) {
      const from = binOf[item]!;
      for (let to = 0; to < binCount; to++) {
        if (to === from) continue;
        const cost = costs[item * binCount + to]! - costs[item * binCount + from]!;
        push(heaps[from * binCount + to]!, { item, cost });
      }
    },
    cheapest(from, to) {
      const heap = heaps[from * binCount + to]!;
      while (heap.length > 0 && binOf[heap[0]!.item] !== from) pop(heap);
      return heap[0];
    },
  };
}

/** Bellman-Ford over the bins: moves may cost less than nothing, but never around a circle. */
function shortestPath(
  queues: MoveQueues,
  { binCount, sources, targets }: { binCount: number; sources: readonly number[]; targets: readonly number[] },
): number[] {
  const distance = new Float64Array(binCount).fill(Number.POSITIVE_INFINITY);
  const previous = new Int32Array(binCount).fill(-1);
  for (const source of sources) distance[source] = 0;
  for (let round = 0; round < binCount; round++) {
    let changed = false;
    for (let from = 0; from < binCount; from++) {
      if (distance[from] === Number.POSITIVE_INFINITY) continue;
      for (let to = 0; to < binCount; to++) {
        const cost = from === to ? undefined : queues.cheapest(from, to)?.cost;
        if (cost === undefined) continue;
        // The margin keeps rounding errors from closing a circle.
        const margin = 1e-12 * Math.abs(distance[from]! + cost);
        if (!(distance[from]! + cost + margin < distance[to]!)) continue;
        distance[to] = distance[from]! + cost;
        previous[to] = from;
        changed = true;
      }
    }
    if (!changed) break;
  }
  let bin = targets.reduce((best, target) => (distance[target]! < distance[best]! ? target : best), targets[0]!);
  const path = [bin];
  while (previous[bin] !== -1 && path.length <= binCount) {
    bin = previous[bin]!;
    path.unshift(bin);
  }
  return path;
}

function cheapestBin(costs: Float64Array, binCount: number, item: number): number {
  let best = 0;
  for (let bin = 1; bin < binCount; bin++)
    if (costs[item * binCount + bin]! < costs[item * binCount + best]!) best = bin;
  return best;
}

const before = (a: Move, b: Move) => a.cost < b.cost || (a.cost === b.cost && a.item < b.item);

function push(heap: Move[], move: Move): void {
  let at = heap.length;
  heap.push(move);
  while (at > 0) {
    const parent = (at - 1) >> 1;
    if (!before(move, heap[parent]!)) break;
    heap[at] = heap[parent]!;
    at = parent;
  }
  heap[at] = move;
}

function pop(heap: Move[]): void {
  const last = heap.pop()!;
  if (heap.length === 0) return;
  let at = 0;
  for (;;) {
    let child = 2 * at + 1;
    if (child >= heap.length) break;
    if (child + 1 < heap.length && before(heap[child + 1]!, heap[child]!)) child++;
    if (!before(heap[child]!, last)) break;
    heap[at] = heap[child]!;
    at = child;
  }
  heap[at] = last;
}

function checkCapacities(itemCount: number, binCount: number, { minimum, maximum }: Capacities): void {
  let least = 0;
  let most = 0;
  for (let bin = 0; bin < binCount; bin++) {
    least += minimum[bin]!;
    most += maximum[bin]!;
    if (minimum[bin]! > maximum[bin]!)
      throw new OptionError(`bin ${bin} must hold ${minimum[bin]} and may hold ${maximum[bin]}`);
  }
  if (least > itemCount || most < itemCount) {
    throw new OptionError(`${itemCount} items do not fit bins that must hold ${least} and may hold ${most} in all`);
  }
}
