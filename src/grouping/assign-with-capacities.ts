import { OptionError } from '../errors.js';

/** Minimum and maximum of every bin. */
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
  for (let item = 0; item < itemCount; item++) {
    binOf[item] = cheapestBin(costs, binCount, item);
    sizes[binOf[item]!]!++;
  }
  const queues = createMoveQueues(costs, binCount, binOf);
  const bins = Array.from({ length: binCount }, (_, bin) => bin);
  const move = (sources: readonly number[], targets: readonly number[]) => {
    const path = shortestPath(queues, { binCount, sources, targets });
    for (let step = 0; step + 1 < path.length; step++) {
      const item = queues.cheapest(path[step]!, path[step + 1]!);
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

/** Cheapest item to move between each pair of bins; stale items are dropped when they reach the top. */
interface MoveQueues {
  /** Adds an item that has been moved to a bin. */
  add(item: number): void;
  /** -1 if the bin is empty. */
  cheapest(from: number, to: number): number;
  cost(item: number, from: number, to: number): number;
}

function createMoveQueues(costs: Float64Array, binCount: number, binOf: Int32Array): MoveQueues {
  const cost = (item: number, from: number, to: number) =>
    costs[item * binCount + to]! - costs[item * binCount + from]!;
  const members = Array.from({ length: binCount }, () => [] as number[]);
  binOf.forEach((bin, item) => {
    members[bin]!.push(item);
  });
  const heaps = Array.from({ length: binCount * binCount }, (_, pair) => {
    const [from, to] = [Math.floor(pair / binCount), pair % binCount];
    return createHeap(from === to ? [] : members[from]!, (item) => cost(item, from, to));
  });
  return {
    cost,
    add(item) {
      const from = binOf[item]!;
      for (let to = 0; to < binCount; to++) if (to !== from) heaps[from * binCount + to]!.push(item);
    },
    cheapest(from, to) {
      const heap = heaps[from * binCount + to]!;
      for (let top = heap.top(); top >= 0; top = heap.top()) {
        if (binOf[top] === from) return top;
        heap.pop();
      }
      return -1;
    },
  };
}

/** Bellman-Ford over the bins: moves may have a negative cost, but no cycle has. */
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
        const item = from === to ? -1 : queues.cheapest(from, to);
        if (item < 0) continue;
        const cost = queues.cost(item, from, to);
        // The margin prevents negative cycles from rounding errors.
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

/** Items by rising cost, of equal ones by number. */
interface Heap {
  /** -1 when it is empty. */
  top(): number;
  push(item: number): void;
  pop(): void;
}

function createHeap(start: readonly number[], costOf: (item: number) => number): Heap {
  const items = [...start];
  const isBefore = (one: number, other: number) => {
    const gap = costOf(one) - costOf(other);
    return gap < 0 || (gap === 0 && one < other);
  };
  const sink = (from: number): void => {
    const item = items[from]!;
    let at = from;
    for (let child = 2 * at + 1; child < items.length; child = 2 * at + 1) {
      if (child + 1 < items.length && isBefore(items[child + 1]!, items[child]!)) child++;
      if (!isBefore(items[child]!, item)) break;
      items[at] = items[child]!;
      at = child;
    }
    items[at] = item;
  };
  for (let at = (items.length >> 1) - 1; at >= 0; at--) sink(at);
  return {
    top: () => (items.length === 0 ? -1 : items[0]!),
    push(item) {
      let at = items.push(item) - 1;
      for (let parent = (at - 1) >> 1; at > 0 && isBefore(item, items[parent]!); parent = (at - 1) >> 1) {
        items[at] = items[parent]!;
        at = parent;
      }
      items[at] = item;
    },
    pop() {
      const last = items.pop()!;
      if (items.length === 0) return;
      items[0] = last;
      sink(0);
    },
  };
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
