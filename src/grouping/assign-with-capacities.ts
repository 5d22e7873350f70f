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
  const heaps = Array.from({ length: binCount * binCount }, createHeap);
  return {
    add(item) {
      const from = binOf[item]!;
      for (let to = 0; to < binCount; to++) {
        if (to === from) continue;
        heaps[from * binCount + to]!.push(item, costs[item * binCount + to]! - costs[item * binCount + from]!);
      }
    },
    cheapest(from, to) {
      const heap = heaps[from * binCount + to]!;
      for (let top = heap.top(); top !== undefined; top = heap.top()) {
        if (binOf[top.item] === from) return top;
        heap.pop();
      }
      return undefined;
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

/** Moves by rising cost, of equal ones by item. */
interface Heap {
  top(): Move | undefined;
  push(item: number, cost: number): void;
  pop(): void;
}

/** Two lists of plain numbers in place of one of objects: there are many moves, and few come to the top. */
function createHeap(): Heap {
  const items: number[] = [];
  const costs: number[] = [];
  const isBefore = (a: number, b: number) => costs[a]! < costs[b]! || (costs[a] === costs[b] && items[a]! < items[b]!);
  const swap = (a: number, b: number) => {
    const [item, cost] = [items[a]!, costs[a]!];
    items[a] = items[b]!;
    costs[a] = costs[b]!;
    items[b] = item;
    costs[b] = cost;
  };
  return {
    top: () => (items.length === 0 ? undefined : { item: items[0]!, cost: costs[0]! }),
    push(item, cost) {
      let at = items.push(item) - 1;
      costs.push(cost);
      for (let parent = (at - 1) >> 1; at > 0 && isBefore(at, parent); parent = (at - 1) >> 1) {
        swap(at, parent);
        at = parent;
      }
    },
    pop() {
      swap(0, items.length - 1);
      items.pop();
      costs.pop();
      for (let at = 0; ; ) {
        let child = 2 * at + 1;
        if (child >= items.length) return;
        if (child + 1 < items.length && isBefore(child + 1, child)) child++;
        if (!isBefore(child, at)) return;
        swap(at, child);
        at = child;
      }
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
