import ndarray from 'ndarray';
import type { RepairedChannels } from '../activations/measure-output-error.js';
import type { PrunableModule } from '../architecture/layout.js';
import type {
  ChannelStatistics,
  Compensated,
  CompensationAdapter,
  ImportanceProblem,
  LinearWeight,
  PreparedImportance,
} from '../compensation/adapter.js';
import { NumericalError, OptionError } from '../errors.js';
import { copyColumns } from '../linalg/matrix-block.js';
import type { MultiplyTransposed } from '../linalg/multiply-transposed.js';
import { chooseChannels } from './choose-channels.js';
import { chooseHeads } from './choose-heads.js';
import type { HeadUnit } from './plan-removal.js';

/** Some units of a module that are scored together, with the statistics of their channels. */
export interface UnitGroup {
  /** Units, ascending. */
  readonly units: Int32Array;
  readonly statistics: ChannelStatistics;
}

export interface ModuleCase {
  readonly module: PrunableModule;
  /** The output projection's weight, `[out, in]`. */
  readonly weight: LinearWeight;
  /** The weight in a metric with a curvature, for scores that use it. */
  readonly scoredWeight?: LinearWeight | undefined;
  /** Function groups; units in none of them are never removed. */
  readonly groups: readonly UnitGroup[];
  readonly adapter: CompensationAdapter;
  readonly headUnit: HeadUnit;
  /** Importance by unit, used instead of the adapter's. */
  readonly order?: Float64Array | undefined;
  readonly random: () => number;
  /** Runs the large products of factorisations; default: this library's own loops. */
  readonly multiply?: MultiplyTransposed | undefined;
  readonly onUnits?: ImportanceProblem['onUnits'];
}

/** A module with the scores of its units. */
export interface ScoredModule {
  /** Importance by unit; infinite for units that are never removed. */
  readonly scores: Float64Array;
  /** Cost of each successive removal by rising score, non-decreasing; one entry for each finite score. */
  readonly costs: Float64Array;
  readonly remarks: readonly string[];
  /** Chooses the units to remove and repairs the others. @param stepCount Steps to remove, see `shrinkSteps`. */
  remove(stepCount: number): Promise<RemovalPlan>;
}

/** Units of a module that remain. */
export interface RemovalPlan {
  /** Units, ascending. */
  readonly keep: Int32Array;
  /** `[out, kept channels]` row-major; absent = the remaining columns are unchanged. */
  readonly weight?: Float32Array;
  readonly bias?: Float64Array;
  /** Result of each group, in order. */
  readonly parts: readonly RepairedGroup[];
  /** Steps that the function groups' limits prevented. */
  readonly overflow: number;
}

/** A group's channels before and after. */
export interface RepairedGroup extends RepairedChannels {
  readonly repaired: Compensated;
}

/**
 * Scores a module's units, group by group, and prepares their removal.
 * @throws NumericalError, naming the module; OptionError when the adapter's result is invalid.
 */
export async function scoreModule(given: ModuleCase): Promise<ScoredModule> {
  const { module, groups, adapter, random, order } = given;
  const parts: GroupPart[] = [];
  for (const group of groups) {
    const channels = channelsOf(module, group.units);
    const problem: ImportanceProblem = {
      weight: narrow(given.weight, channels),
      ...(given.scoredWeight && { scoredWeight: narrow(given.scoredWeight, channels) }),
      statistics: group.statistics,
      unitOfChannel: channels.map((_, at) => Math.floor(at / module.unitSize)),
      unitCount: group.units.length,
      ...(order && { knownScores: Float64Array.from(group.units, (unit) => order[unit]!) }),
      random,
      multiply: given.multiply,
      onUnits: given.onUnits,
    };
    const prepared = await withModuleContext(module, () => adapter.prepare(problem));
    checkScores(prepared, problem);
    parts.push({ group, channels, weight: problem.weight, prepared });
  }
  const scores = new Float64Array(module.unitCount).fill(Number.POSITIVE_INFINITY);
  for (const { group, prepared } of parts) {
    group.units.forEach((unit, at) => {
      scores[unit] = order === undefined ? prepared.scores[at]! : order[unit]!;
    });
  }
  const costs = parts.flatMap(({ prepared }) => [...(prepared.costs ?? prepared.scores.slice().sort())]);
  return {
    scores,
    costs: Float64Array.from(costs).sort(),
    remarks: parts.flatMap(({ prepared }) => prepared.remarks ?? []),
    async remove(stepCount) {
      const choice = choose(given, scores, parts, stepCount);
      const repaired = await withModuleContext(module, () => repairGroups(given, parts, choice.keep));
      return {
        keep: choice.keep,
        overflow: choice.overflow,
        parts: repaired,
        ...joinRepairs(given, { parts, repaired, keep: choice.keep }),
      };
    },
  };
}

/** Adapters may be a user's own. @throws OptionError */
function checkScores(prepared: PreparedImportance, { unitCount }: ImportanceProblem): void {
  if (typeof prepared?.compensate !== 'function')
    throw new OptionError('the method prepared no compensate(keep); expected { scores, compensate }');
  const { scores, costs } = prepared;
  if (scores?.length !== unitCount)
    throw new OptionError(`the method gave ${scores?.length ?? 'no'} scores for ${unitCount} units; expected one each`);
  if (costs !== undefined && costs.length !== unitCount)
    throw new OptionError(`the method gave ${costs.length} costs for ${unitCount} units; expected one each`);
  const invalid = scores.findIndex((score) => Number.isNaN(score));
  if (invalid >= 0) throw new OptionError(`the method gave unit ${invalid} the score NaN; expected a number`);
}

/** @throws OptionError, NumericalError */
function checkRepair(repaired: Compensated, outputCount: number, keptCount: number): void {
  if (typeof repaired !== 'object' || repaired === null)
    throw new OptionError(
      `the method's compensate gave ${String(repaired)}; expected { weight, bias }, or {} for none`,
    );
  const { weight, bias } = repaired;
  if (weight !== undefined && weight.length !== outputCount * keptCount) {
    throw new OptionError(
      `the method repaired ${weight.length} weights; expected [${outputCount}, ${keptCount}], ${outputCount * keptCount}`,
    );
  }
  if (bias !== undefined && bias.length !== outputCount)
    throw new OptionError(`the method gave a bias of length ${bias.length}; expected ${outputCount}`);
  const invalidWeight = weight?.findIndex(isNoFloat) ?? -1;
  if (invalidWeight >= 0)
    throw new NumericalError(
      `the repair of output ${Math.floor(invalidWeight / keptCount)} has the weight ${weight![invalidWeight]}; ${REPAIR_ADVICE}`,
    );
  const invalidBias = bias?.findIndex(isNoFloat) ?? -1;
  if (invalidBias >= 0)
    throw new NumericalError(
      `the repair of output ${invalidBias} has the bias ${bias![invalidBias]}; ${REPAIR_ADVICE}`,
    );
}

const REPAIR_ADVICE = 'expected a float32; give more calibration text or more dampening';

/** Numbers beyond the range of float32 would become infinite. */
const isNoFloat = (value: number): boolean => !Number.isFinite(Math.fround(value));

/** Adds the module to the message of a formula's error. @throws NumericalError */
export async function withModuleContext<T>({ block, kind }: PrunableModule, action: () => T | Promise<T>): Promise<T> {
  try {
    return await action();
  } catch (cause) {
    if (!(cause instanceof NumericalError)) throw cause;
    throw new NumericalError(`block ${block} ${kind}: ${cause.message}`, { cause });
  }
}

interface GroupPart {
  readonly group: UnitGroup;
  readonly channels: Int32Array;
  readonly weight: LinearWeight;
  readonly prepared: PreparedImportance;
}

function choose(
  { module, headUnit }: ModuleCase,
  scores: Float64Array,
  parts: readonly GroupPart[],
  removeCount: number,
) {
  const { groupOfUnit, groupCount, unitCount } = module;
  if (groupOfUnit !== undefined && groupCount !== undefined) {
    return chooseHeads({ scores, groupOfHead: groupOfUnit, groupCount, headUnit, removeCount });
  }
  const groups = parts.map(({ group: { units } }) => ({ units, scores: Array.from(units, (unit) => scores[unit]!) }));
  return chooseChannels({ unitCount, groups, removeCount });
}

async function repairGroups(
  { module, weight }: ModuleCase,
  parts: readonly GroupPart[],
  keep: Int32Array,
): Promise<RepairedGroup[]> {
  const keptUnits = new Set(keep);
  const repaired: RepairedGroup[] = [];
  for (const { group, channels, weight: columns, prepared } of parts) {
    const remaining = Int32Array.from(
      [...channels].flatMap((channel, at) => (keptUnits.has(unitOf(module, channel)) ? [at] : [])),
    );
    const compensated = remaining.length === channels.length ? {} : await prepared.compensate(remaining);
    checkRepair(compensated, weight.shape[0] ?? 0, remaining.length);
    repaired.push({ statistics: group.statistics, weight: columns, remaining, repaired: compensated });
  }
  return repaired;
}

interface Repairs {
  readonly parts: readonly GroupPart[];
  readonly repaired: readonly RepairedGroup[];
  readonly keep: Int32Array;
}

/** Joins the groups' repairs: columns into one weight, biases into one sum. */
function joinRepairs({ module, weight }: ModuleCase, { parts, repaired, keep }: Repairs): Compensated {
  const columnOf = new Map([...channelsOf(module, keep)].map((channel, column) => [channel, column]));
  const outputCount = weight.shape[0] ?? 0;
  let bias: Float64Array | undefined;
  let joined: Float32Array | undefined;
  parts.forEach(({ channels }, group) => {
    const { remaining, repaired: compensated } = repaired[group]!;
    if (compensated.bias !== undefined)
      bias = bias === undefined ? compensated.bias : bias.map((sum, at) => sum + compensated.bias![at]!);
    if (compensated.weight === undefined) return;
    joined ??= copyColumns(weight, channelsOf(module, keep), new Float32Array(outputCount * columnOf.size));
    for (let at = 0; at < remaining.length; at += 1) {
      const column = columnOf.get(channels[remaining[at]!]!)!;
      for (let out = 0; out < outputCount; out += 1)
        joined[out * columnOf.size + column] = compensated.weight[out * remaining.length + at]!;
    }
  });
  return { ...(joined && { weight: joined }), ...(bias && { bias }) };
}

const unitOf = (module: PrunableModule, channel: number): number => Math.floor(channel / module.unitSize);

/** Channels of some units, ascending. */
export function channelsOf({ unitSize }: PrunableModule, units: Int32Array): Int32Array {
  return Int32Array.from(
    { length: units.length * unitSize },
    (_, at) => units[Math.floor(at / unitSize)]! * unitSize + (at % unitSize),
  );
}

/** Some columns of a weight, dense; all of them without copying. */
function narrow(weight: LinearWeight, columns: Int32Array): LinearWeight {
  const [rowCount = 0, columnCount = 0] = weight.shape;
  if (columns.length === columnCount) return weight;
  const values = new Float32Array(rowCount * columns.length);
  return ndarray(copyColumns(weight, columns, values), [rowCount, columns.length]);
}
