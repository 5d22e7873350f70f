import { allocateSteps } from '../allocation/allocate-steps.js';
import { type AllocationProblem, type ModuleMeasures, parametersOfSteps } from '../allocation/allocation.js';
import { freeHeadGroups } from '../allocation/even-head-groups.js';
import { global } from '../allocation/global.js';
import { OptionError } from '../errors.js';
import { sum } from '../linalg/sum.js';
import type { WeightGrid } from '../quantisation/block-codes.js';

/** Bits of a weight in blocks. */
export type Bits = WeightGrid['bits'];

/** Block sizes that each weight may have, the first one unless a mixture chooses another. */
export const BLOCK_SIZES = [32, 64, 128] as const;

/**
 * Squared error of rounding relative to blocks of 32, by block size. Levels divide the range of a block; the expected ranges of
 * 32, 64 and 128 normally distributed weights (Tippett 1925) give 1.28 and 1.57, SmolLM2's linear layers have 1.31 and 1.65.
 */
const RELATIVE_ERROR: Readonly<Record<number, number>> = { 32: 1, 64: 1.31, 128: 1.65 };

/** A weight on one grid. */
export interface SizedForm {
  /** Absent: the form in the model. */
  readonly grid?: WeightGrid | undefined;
  readonly bytes: number;
  /** Estimated cost of its rounding, in nats per token. */
  readonly cost: number;
}

/** A weight that may be written on several grids. */
export interface SizedWeight {
  readonly name: string;
  /** Whether it is the embedding or the LM head, which keep the most bits unless a mixture lists them. */
  readonly isTable: boolean;
  /** Index of the module that it shrinks with; absent: it keeps its shape. */
  readonly module?: number | undefined;
  /** At least one, from the most to the fewest bytes: the most bits first, and among these the smallest blocks. */
  readonly forms: readonly SizedForm[];
}

/** A module that may be pruned. */
export interface SizedModule extends ModuleMeasures {
  readonly index: number;
  /** Bytes that `SizeProblem.weights` do not cover, such as those of experts or of the KV cache. */
  readonly otherBytes: number;
}

/** Parts of a model that can be made smaller. */
export interface SizeProblem {
  readonly weights: readonly SizedWeight[];
  readonly modules: readonly SizedModule[];
  /** Parameters of modules that stay, though they could be pruned; they count in sparsities. Default 0. */
  readonly otherParameters?: number;
  /** Bytes of everything else. */
  readonly fixedBytes: number;
  /** Whether all attention of one type loses the same number of heads. */
  readonly evenHeads: boolean;
}

/** Grids of every linear layer and steps of every module. */
export interface Mixture {
  readonly grids: ReadonlyMap<string, WeightGrid>;
  /** Steps that each module loses, by module index. */
  readonly steps: ReadonlyMap<number, number>;
  /** Fraction of the prunable parameters that is removed. */
  readonly sparsity: number;
  /** Estimated bytes of the model. */
  readonly bytes: number;
  /** Sums of the estimated costs of removals and of rounding, in nats per token. */
  readonly estimate: MixtureCost;
}

export interface MixtureCost {
  readonly pruning: number;
  /** By the number of bits of linear layers; numbers that none has are absent. */
  readonly rounding: ReadonlyMap<Bits, number>;
}

/** Sum of the costs of roundings. */
export const sumOfRounding = ({ rounding }: Pick<MixtureCost, 'rounding'>): number => sum(rounding.values());

/** Factors on estimates of rounding, by number of bits; 1 where absent. */
export type CostSlopes = ReadonlyMap<Bits, number>;

/** Most states of the bits that are evaluated: between neighbouring ones the estimate hardly changes. */
const MAX_STATES = 64;

/**
 * Mixtures that fit into a number of bytes. Weights get fewer bits or larger blocks one after the other, in the order of cost per saved
 * byte; in every such state, units are removed for the remaining bytes by one threshold on their cost per byte. The first mixtures
 * have the most bits, the last the most units.
 *
 * @param slopes Change the order in which weights get fewer bytes, but not the estimates of mixtures.
 * @returns Empty if the bytes cannot be met.
 */
export function mixturesAt(problem: SizeProblem, targetBytes: number, slopes: CostSlopes = new Map()): Mixture[] {
  const costOf = ({ grid, cost }: SizedForm) => cost * ((grid && slopes.get(grid.bits)) ?? 1);
  const states = sampleStates(statesOf(problem.weights, costOf), problem, targetBytes);
  return states.flatMap((forms) => pruneTo(problem, forms, { targetBytes, costOf }) ?? []);
}

/** Cost of rounding a linear layer, for comparing its forms. */
type CostOf = (form: SizedForm) => number;

/** Forms of a weight in a number of bits, else in the fewest more bits that it can have, else in the most; at least one. */
export function formsIn({ forms }: Pick<SizedWeight, 'forms'>, bits: Bits): readonly SizedForm[] {
  const { grid } = forms.filter((form) => (form.grid?.bits ?? bits) >= bits).at(-1) ?? forms[0]!;
  return forms.filter((form) => form.grid?.bits === grid?.bits);
}

/** The same, but tables have the most bits. */
export const plainForms = (weight: SizedWeight, bits: Bits): readonly SizedForm[] =>
  formsIn(weight, (weight.isTable ? weight.forms[0]!.grid?.bits : undefined) ?? bits);

/** Cost of a form, from the cost in the smallest blocks of as many bits: it is proportional to the squared error. */
export function costInBlocks(cost: number, { grid }: SizedForm, { forms }: Pick<SizedWeight, 'forms'>): number {
  if (grid === undefined) return cost;
  const first = forms.find((form) => form.grid?.bits === grid.bits)!.grid!;
  return (cost * RELATIVE_ERROR[grid.blockSize]!) / RELATIVE_ERROR[first.blockSize]!;
}

/**
 * The unpruned mixture with one number of bits in the smallest blocks, except that tables have the most bits, and the named table
 * the fewest.
 */
export function uniformMixture(problem: SizeProblem, bits: Bits, table?: string): Mixture {
  const forms = problem.weights.map(
    (weight) => (weight.name === table ? formsIn(weight, 2) : plainForms(weight, bits))[0]!,
  );
  return describeMixture(problem, forms, new Map());
}

/** Bytes of the unpruned model with the most bits. */
export const largestBytes = (problem: SizeProblem): number =>
  describeMixture(
    problem,
    problem.weights.map(({ forms }) => forms[0]!),
    new Map(),
  ).bytes;

/** The smallest mixture: the fewest bits and the fewest units. */
export function smallestMixture(problem: SizeProblem): Mixture {
  const { weights, modules, evenHeads } = problem;
  const steps = new Map(
    modules.map((module) => {
      const least = Math.ceil(module.minimumKept / module.multiple) * module.multiple;
      return [module.index, Math.max(0, module.stepCount - least)] as const;
    }),
  );
  for (const group of freeHeadGroups({ modules, evenHeads })) {
    const fewest = Math.min(...group.map(({ index }) => steps.get(index)!));
    for (const { index } of group) steps.set(index, fewest);
  }
  const forms = weights.map((weight) => weight.forms.at(-1)!);
  return describeMixture(problem, forms, steps);
}

/** Form of each weight. */
type State = readonly SizedForm[];

/** Every state from the most bits to the fewest. */
function statesOf(weights: readonly SizedWeight[], costOf: CostOf): State[] {
  const demotions = weights.flatMap(({ forms }, weight) =>
    demotionsOf(forms, costOf).map((demotion) => ({ weight, ...demotion })),
  );
  demotions.sort((a, b) => a.costPerByte - b.costPerByte || a.weight - b.weight);
  const state = weights.map(({ forms }) => forms[0]!);
  const states: State[] = [[...state]];
  for (const { weight, form } of demotions) {
    state[weight] = form;
    states.push([...state]);
  }
  return states;
}

interface Demotion {
  readonly form: SizedForm;
  readonly costPerByte: number;
}

/** Steps of a weight to fewer bytes, with rising cost per byte: only forms on the lower convex hull of costs over bytes. */
function demotionsOf(forms: readonly SizedForm[], costOf: CostOf): Demotion[] {
  const demotions: Demotion[] = [];
  let from = forms[0]!;
  let rest = forms.slice(1).filter(({ bytes }) => bytes < from.bytes);
  while (rest.length > 0) {
    const candidates = rest.map((form) => ({
      form,
      costPerByte: (costOf(form) - costOf(from)) / (from.bytes - form.bytes),
    }));
    const best = candidates.reduce((a, b) => (b.costPerByte < a.costPerByte ? b : a));
    demotions.push(best);
    from = best.form;
    rest = rest.filter(({ bytes }) => bytes < from.bytes);
  }
  return demotions;
}

/** A sample of the states up to the first that needs no removed units, including that one. */
function sampleStates(states: readonly State[], problem: SizeProblem, targetBytes: number): State[] {
  const isEnough = (state: State) => describeMixture(problem, state, new Map()).bytes <= targetBytes;
  const first = states.findIndex(isEnough);
  const useful = first < 0 ? states : states.slice(0, first + 1);
  const stride = Math.max(1, Math.ceil(useful.length / MAX_STATES));
  return useful.filter((_, at) => (useful.length - 1 - at) % stride === 0);
}

/**
 * Gives weights more bytes again while they fit, in the order of the decrease of cost per byte: fewer bits of a large weight, such
 * as the embedding, may save far more bytes than needed.
 */
function raiseForms(
  weights: readonly SizedWeight[],
  state: State,
  { spareBytes, costOf }: { spareBytes: number; costOf: CostOf },
): State {
  const raised = [...state];
  let spare = spareBytes;
  for (;;) {
    const raises = weights.flatMap(({ forms }, weight) =>
      forms.flatMap((form) => {
        const [bytes, gain] = [form.bytes - raised[weight]!.bytes, costOf(raised[weight]!) - costOf(form)];
        return bytes > 0 && bytes <= spare && gain > 0 ? [{ weight, form, bytes, gain: gain / bytes }] : [];
      }),
    );
    if (raises.length === 0) return raised;
    const best = raises.reduce((a, b) => (b.gain > a.gain ? b : a));
    raised[best.weight] = best.form;
    spare -= best.bytes;
  }
}

/**
 * Largest cost of removing other heads, as a fraction of the cost at one threshold: estimates of many heads at once are too low.
 */
const CLEARLY_CHEAPER = 0.8;

/** Removes units from a state until it fits, or raises forms if it is smaller than needed; undefined if it cannot fit. */
function pruneTo(
  problem: SizeProblem,
  forms: State,
  { targetBytes, costOf }: { readonly targetBytes: number; readonly costOf: CostOf },
): Mixture | undefined {
  const { modules, evenHeads } = problem;
  const unpruned = describeMixture(problem, forms, new Map());
  if (unpruned.bytes <= targetBytes) {
    const raised = raiseForms(problem.weights, forms, { spareBytes: targetBytes - unpruned.bytes, costOf });
    return describeMixture(problem, raised, new Map());
  }
  const bytesOf = moduleBytes(problem, forms);
  const inBytes = modules.map((module, at) => ({
    ...module,
    parameterCount: bytesOf[at]!,
    parametersPerStep: (bytesOf[at]! * module.parametersPerStep) / module.parameterCount,
    stepParameters: module.stepParameters?.map((count) => (bytesOf[at]! * count) / module.parameterCount),
  }));
  const prunable = sum(bytesOf);
  const sparsity = (unpruned.bytes - targetBytes) / prunable;
  if (!(sparsity < 1)) return undefined;
  if (smallestBytes(problem, forms) > targetBytes) return undefined;
  const describe = (steps: readonly number[]) =>
    describeMixture(problem, forms, new Map(modules.map(({ index }, at) => [index, steps[at]!])));
  const finest = Math.min(...inBytes.map(({ parametersPerStep, multiple }) => parametersPerStep * multiple));
  const excessOf = ({ bytes }: Mixture) => (bytes - targetBytes <= finest ? 0 : bytes - targetBytes);
  return stepsToCompare({ sparsity, modules: inBytes, evenHeads })
    .map(describe)
    .reduce((a, b) =>
      (excessOf(b) - excessOf(a) || b.estimate.pruning - CLEARLY_CHEAPER * a.estimate.pruning) < 0 ? b : a,
    );
}

/**
 * The steps of one threshold, and those with as many or one more of the heads that all attention loses together, which is then met first.
 * That step may be larger than all that is to be removed: the threshold takes it last, or never, even where it alone costs less.
 */
function stepsToCompare(problem: AllocationProblem): number[][] {
  const steps = allocateSteps(global, problem);
  const { modules } = problem;
  const others = freeHeadGroups(problem).flatMap((group) =>
    [0, 1].flatMap((more) => {
      const countOf = (module: ModuleMeasures) => steps[modules.indexOf(module)]! + more * module.multiple;
      if (group.some((module) => countOf(module) === 0 || module.stepCount - countOf(module) < module.minimumKept))
        return [];
      const withHeads = modules.map((module) =>
        group.includes(module) ? { ...module, fixed: countOf(module) / module.stepCount } : module,
      );
      try {
        return [allocateSteps(global, { ...problem, modules: withHeads })];
      } catch (error) {
        // These heads may leave too few units for the budget.
        if (error instanceof OptionError) return [];
        throw error;
      }
    }),
  );
  return [steps, ...others];
}

/** Bytes of a state without all units that may be removed. */
function smallestBytes(problem: SizeProblem, forms: State): number {
  const weights = problem.weights.map((weight, at) => ({ ...weight, forms: [forms[at]!] }));
  return smallestMixture({ ...problem, weights }).bytes;
}

/** Bytes of each module's weights in some forms. */
function moduleBytes({ weights, modules }: Pick<SizeProblem, 'weights' | 'modules'>, forms: State): number[] {
  const sums = new Map<number, number>();
  for (const [at, { module }] of weights.entries())
    if (module !== undefined) sums.set(module, (sums.get(module) ?? 0) + forms[at]!.bytes);
  return modules.map(({ index, otherBytes }) => otherBytes + (sums.get(index) ?? 0));
}

/** Describes the mixture of weights in given forms and modules without given numbers of steps. */
export function describeMixture(
  problem: Omit<SizeProblem, 'evenHeads'>,
  forms: State,
  steps: ReadonlyMap<number, number>,
): Mixture {
  const { weights, modules, otherParameters = 0, fixedBytes } = problem;
  const removed = new Map(
    modules.map((module) => [
      module.index,
      Math.min(1, parametersOfSteps(module, steps.get(module.index) ?? 0) / module.parameterCount),
    ]),
  );
  const partLeft = (module: number | undefined) => 1 - (module === undefined ? 0 : (removed.get(module) ?? 0));
  let [bytes, pruning, parameters, removedParameters] = [fixedBytes, 0, otherParameters, 0];
  const rounding = new Map<Bits, number>();
  for (const [at, { module }] of weights.entries()) {
    const { grid, bytes: own, cost } = forms[at]!;
    bytes += own * partLeft(module);
    if (grid !== undefined && cost > 0)
      rounding.set(grid.bits, (rounding.get(grid.bits) ?? 0) + cost * partLeft(module));
  }
  for (const { index, otherBytes, order, parameterCount } of modules) {
    bytes += otherBytes * partLeft(index);
    parameters += parameterCount;
    removedParameters += parameterCount * (1 - partLeft(index));
    const count = steps.get(index) ?? 0;
    for (let step = 0; step < count; step += 1) pruning += order?.costs[step] ?? 0;
  }
  return {
    grids: new Map(
      weights.flatMap(({ name }, at) => (forms[at]!.grid === undefined ? [] : [[name, forms[at]!.grid!]])),
    ),
    steps: new Map([...steps].filter(([, count]) => count > 0)),
    sparsity: parameters === 0 ? 0 : removedParameters / parameters,
    bytes,
    estimate: { pruning, rounding },
  };
}
