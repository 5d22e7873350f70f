import type { PrunableModule } from '../../architecture/layout.js';
import { type HeadUnit, sharedSource } from '../../removal/plan-removal.js';
import type { DenseMeasures } from './dense-measures.js';
import type { ModuleRemovalOrder } from './order-units.js';

type Orders = NonNullable<DenseMeasures['orders']>;

/** Modules whose heads are removed together, since they share keys and values, by the index of the module that computes these. */
export function sharingModules(
  modules: readonly PrunableModule[],
  headUnit: HeadUnit,
): ReadonlyMap<number, readonly PrunableModule[]> {
  const found = new Map<number, PrunableModule[]>();
  for (const module of modules) {
    const source = sharedSource(module, headUnit);
    if (source !== undefined) found.set(source, [...(found.get(source) ?? []), module]);
  }
  return found;
}

/**
 * Gives modules whose heads are removed together one order, by the sum of their costs. Each module keeps its own costs, in this
 * order.
 */
export function joinOrders(orders: Orders, modules: readonly PrunableModule[], headUnit: HeadUnit): Orders {
  const joined = new Map(orders);
  for (const sharing of sharingModules(modules, headUnit).values()) {
    const own = sharing.map((module) => costsByStep(module, orders.get(module)!));
    const sums = own[0]!.map((_, step) => own.reduce((sum, costs) => sum + costs[step]!, 0));
    const order = Array.from(sums.keys()).sort((a, b) => sums[a]! - sums[b]! || a - b);
    sharing.forEach((module, at) => {
      joined.set(module, {
        scores: Float64Array.from({ length: module.unitCount }, (_, unit) => sums[stepOf(module, unit)]!),
        costs: Float64Array.from(order, (step) => own[at]![step]!),
      });
    });
  }
  return joined;
}

/** KV head of a query head. */
const stepOf = ({ groupOfUnit }: PrunableModule, unit: number): number => groupOfUnit?.[unit] ?? unit;

/** Costs of removing each KV head, in the order of removal. */
function costsByStep(module: PrunableModule, { scores, costs }: ModuleRemovalOrder): Float64Array {
  const sums = new Float64Array(costs.length);
  scores.forEach((score, unit) => {
    sums[stepOf(module, unit)]! += score;
  });
  const order = Array.from(sums.keys()).sort((a, b) => sums[a]! - sums[b]! || a - b);
  const byStep = new Float64Array(costs.length);
  order.forEach((step, at) => {
    byStep[step] = costs[at]!;
  });
  return byStep;
}
