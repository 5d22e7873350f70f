import type { PrunableModule } from '../../architecture/layout.js';
import type {
  ChannelStatistics,
  CompensationAdapter,
  ImportanceProblem,
  LinearWeight,
} from '../../compensation/adapter.js';
import type { MultiplyTransposed } from '../../linalg/multiply-transposed.js';
import { type HeadUnit, shrinkSteps } from '../../removal/plan-removal.js';
import { scoreModule } from '../../removal/score-module.js';

/** Removal order of a module's units in the dense model, with the cost of each step. */
export interface ModuleRemovalOrder {
  /** Importance by unit, rising in the order of removal. */
  readonly scores: Float64Array;
  /** Cost of each successive step, see `shrinkSteps`. */
  readonly costs: Float64Array;
  /** Of a mixture whose experts may lose neurons. */
  readonly neurons?: NeuronOrder | undefined;
}

/** Removal orders of neuron units inside the experts of a mixture, `[experts, units]` each. */
export interface NeuronOrder {
  /** Importance by unit, rising in the order of removal. */
  readonly scores: Float64Array;
  /** Cost of each successive unit of an expert, non-decreasing. */
  readonly costs: Float64Array;
}

export interface OrderCase {
  readonly module: PrunableModule;
  readonly weight: LinearWeight;
  readonly scoredWeight?: LinearWeight | undefined;
  readonly statistics: ChannelStatistics;
  readonly adapter: CompensationAdapter;
  readonly headUnit: HeadUnit;
  readonly random: () => number;
  readonly multiply?: MultiplyTransposed | undefined;
  readonly onUnits?: ImportanceProblem['onUnits'];
}

/** Orders a module's units without function groups. KV groups that are removed as a whole are scored as one unit. */
export async function orderUnits(given: OrderCase): Promise<ModuleRemovalOrder> {
  const { module, statistics, headUnit } = given;
  const { groupOfUnit, groupCount } = module;
  const members = module.unitCount / (groupCount ?? module.unitCount);
  const byGroup =
    headUnit === 'group' && groupOfUnit?.every((group, unit) => group === Math.floor(unit / members)) === true;
  const scored = byGroup ? asGroups(module, members) : module;
  const units = Int32Array.from({ length: scored.unitCount }, (_, unit) => unit);
  const { scores, costs } = await scoreModule({ ...given, module: scored, groups: [{ units, statistics }] });
  if (groupOfUnit === undefined) return { scores, costs };
  if (byGroup) return { scores: Float64Array.from(groupOfUnit, (group) => scores[group]!), costs };
  return { scores, costs: stepCosts(given, { scores, costs }, groupOfUnit) };
}

/** The module with its KV groups as units, whose channels are contiguous. */
function asGroups({ groupOfUnit: _, ...module }: PrunableModule, members: number): PrunableModule {
  return { ...module, unitCount: module.unitCount / members, unitSize: module.unitSize * members };
}

/** Sums of the costs of heads that are removed together: an entire group, or each group's next in the order. */
function stepCosts(
  { module, headUnit }: OrderCase,
  { scores, costs }: ModuleRemovalOrder,
  groupOfUnit: Int32Array,
): Float64Array {
  const sums = new Float64Array(shrinkSteps(module, headUnit).stepCount);
  const rank = new Int32Array(module.groupCount ?? 0);
  const order = Array.from(scores.keys()).sort((a, b) => scores[a]! - scores[b]! || a - b);
  order.forEach((unit, at) => {
    const group = groupOfUnit[unit]!;
    sums[headUnit === 'group' ? group : rank[group]!++]! += costs[at]!;
  });
  return sums.sort();
}
