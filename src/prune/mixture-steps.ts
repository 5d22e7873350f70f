import type { ExpertNeurons, PrunableModule } from '../architecture/layout.js';
import type { ResolvedOptions } from '../options.js';
import { shrinkSteps } from '../removal/plan-removal.js';
import type { ModuleRemovalOrder, NeuronOrder } from './measure-dense/order-units.js';

/** Experts and neurons that a mixture loses. */
export interface MixtureLoss {
  /** Steps of entire experts, see `shrinkSteps`. */
  readonly experts: number;
  /** Neuron units of each expert that remains. */
  readonly neurons: number;
}

/** Steps by which a mixture shrinks where its experts' neurons leave too, from the cheapest parameter on. */
export interface MixtureSteps {
  /** Cost of each further step. */
  readonly costs: Float64Array;
  /** Parameters that leave with it. */
  readonly parameters: Float64Array;
  /** Total loss after each step. */
  readonly losses: readonly MixtureLoss[];
}

/** Facts that decide how a mixture shrinks. */
export interface MixtureCase {
  readonly options: Pick<
    ResolvedOptions,
    'allocation' | 'experts' | 'blockSparsity' | 'minimumWidth' | 'denseWidths' | 'widthMultiple'
  >;
  /** Absent: nothing was measured. */
  readonly order: ModuleRemovalOrder | undefined;
}

/** Whether neurons inside a mixture's experts may leave. A number or a sparsity that was asked for is met by entire experts. */
export function takesNeurons(
  { block, kind, neurons }: PrunableModule,
  { allocation, experts, blockSparsity, minimumWidth }: MixtureCase['options'],
): boolean {
  const own = blockSparsity.get(block);
  const isFixed = experts !== undefined || typeof own === 'number' || own?.experts !== undefined;
  return (
    kind === 'experts' &&
    neurons !== undefined &&
    allocation.takesUnevenSteps === true &&
    !isFixed &&
    minimumWidth !== 1
  );
}

/** How a mixture shrinks; undefined where only entire experts leave. */
export function mixtureSteps(module: PrunableModule, { options, order }: MixtureCase): MixtureSteps | undefined {
  if (order?.neurons === undefined || !takesNeurons(module, options)) return undefined;
  const neurons = module.neurons!;
  const { parametersPerUnit: perExpert, leastExperts = 1 } = module;
  const { stepCount, unitsPerStep } = shrinkSteps(module, 'query');
  const leaving = expertsByStep(module, order.scores);
  const widths = widthsOf(module, options);
  const last = { experts: stepCount - Math.ceil(leastExperts / unitsPerStep), neurons: widths.length - 1 };
  const costs: number[] = [];
  const parameters: number[] = [];
  const losses: MixtureLoss[] = [];
  const remaining = new Set(leaving.flat());
  for (let [experts, width] = [0, 0]; experts < last.experts || width < last.neurons; ) {
    const gone = neurons.unitCount - widths[width]!;
    const expertStep = {
      cost: order.costs[experts] ?? 0,
      parameters: unitsPerStep * (perExpert - gone * neurons.parametersPerUnit),
    };
    const next = { from: gone, to: neurons.unitCount - (widths[width + 1] ?? 0) };
    const neuronStep = {
      cost: costOfNeurons(order.neurons, neurons, { remaining, ...next }),
      parameters: remaining.size * (next.to - next.from) * neurons.parametersPerUnit,
    };
    const isExpert =
      width >= last.neurons ||
      (experts < last.experts && expertStep.cost * neuronStep.parameters < neuronStep.cost * expertStep.parameters);
    if (isExpert) {
      for (const expert of leaving[experts]!) remaining.delete(expert);
      experts += 1;
    } else width += 1;
    const step = isExpert ? expertStep : neuronStep;
    costs.push(step.cost);
    parameters.push(step.parameters);
    losses.push({ experts, neurons: neurons.unitCount - widths[width]! });
  }
  return { costs: Float64Array.from(costs), parameters: Float64Array.from(parameters), losses };
}

/** Loss of a mixture after so many steps of its allocation. */
export function mixtureLoss(module: PrunableModule, given: MixtureCase & { readonly stepCount: number }): MixtureLoss {
  const { stepCount } = given;
  const steps = mixtureSteps(module, given);
  if (steps === undefined) return { experts: stepCount, neurons: 0 };
  return steps.losses[stepCount - 1] ?? { experts: 0, neurons: 0 };
}

/** Experts in the order in which they leave, step by step: one of every group. */
function expertsByStep({ unitCount, groupOfUnit, groupCount = 1 }: PrunableModule, scores: Float64Array): number[][] {
  const order = Array.from({ length: unitCount }, (_, expert) => expert).sort(
    (a, b) => scores[a]! - scores[b]! || a - b,
  );
  const groups = Array.from({ length: groupCount }, (_, group) =>
    order.filter((expert) => (groupOfUnit?.[expert] ?? 0) === group),
  );
  return Array.from({ length: unitCount / groupCount }, (_, step) => groups.map((experts) => experts[step]!));
}

/** Neuron units that an expert may keep: all, and fewer down to the least, in multiples that were asked for. */
function widthsOf(
  { index, neurons }: PrunableModule,
  { minimumWidth = 0, denseWidths, widthMultiple }: MixtureCase['options'],
): number[] {
  const { unitCount, unitSize } = neurons!;
  const multiple = leastCommonMultiple(widthMultiple, unitSize) / unitSize;
  const least = Math.max(1, Math.ceil((minimumWidth * (denseWidths?.get(index) ?? unitCount * unitSize)) / unitSize));
  const widths = [unitCount];
  const largest = Math.floor((unitCount - 1) / multiple) * multiple;
  for (let width = largest; width >= least && width > 0; width -= multiple) widths.push(width);
  return widths;
}

function leastCommonMultiple(a: number, b: number): number {
  let [x, y] = [a, b];
  while (y > 0) [x, y] = [y, x % y];
  return (a * b) / x;
}

interface NeuronStep {
  readonly remaining: ReadonlySet<number>;
  /** Units that have left each expert before and after. */
  readonly from: number;
  readonly to: number;
}

function costOfNeurons(
  { costs }: NeuronOrder,
  { unitCount }: ExpertNeurons,
  { remaining, from, to }: NeuronStep,
): number {
  let sum = 0;
  for (const expert of remaining) for (let at = from; at < to; at += 1) sum += costs[expert * unitCount + at] ?? 0;
  return sum;
}
