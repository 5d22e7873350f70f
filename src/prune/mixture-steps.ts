import type { ExpertNeurons, PrunableModule } from '../architecture/layout.js';
import type { ResolvedOptions } from '../options.js';
import { shrinkSteps } from '../removal/plan-removal.js';
import type { ModuleRemovalOrder, NeuronOrder } from './measure-dense/order-units.js';

/** Experts and neurons that a mixture loses. */
export interface MixtureLoss {
  /** Steps of entire experts, see `shrinkSteps`. */
  readonly experts: number;
  /** Neuron units that each remaining expert loses. */
  readonly neurons: number;
}

/** Steps by which a mixture loses experts and neurons inside them, in the order of rising cost per parameter. */
export interface MixtureSteps {
  /** Cost of each successive step. */
  readonly costs: Float64Array;
  /** Parameters of each step. */
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

/** Whether neurons inside a mixture's experts may be removed. A requested number or sparsity of experts is met by entire experts. */
export function mayRemoveNeurons(
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

/** Steps of a mixture; undefined if only entire experts are removed. */
export function mixtureSteps(module: PrunableModule, { options, order }: MixtureCase): MixtureSteps | undefined {
  if (order?.neurons === undefined || !mayRemoveNeurons(module, options)) return undefined;
  const neurons = module.neurons!;
  const { parametersPerUnit: perExpert, leastExperts = 1 } = module;
  const { stepCount, unitsPerStep } = shrinkSteps(module, 'query');
  const expertsOfStep = expertsByStep(module, order.scores);
  const widths = widthsOf(module, options);
  const last = { experts: stepCount - Math.ceil(leastExperts / unitsPerStep), neurons: widths.length - 1 };
  const costs: number[] = [];
  const parameters: number[] = [];
  const losses: MixtureLoss[] = [];
  const remaining = new Set(expertsOfStep.flat());
  for (let [experts, width] = [0, 0]; experts < last.experts || width < last.neurons; ) {
    const removed = neurons.unitCount - widths[width]!;
    const expertStep = {
      cost: order.costs[experts] ?? 0,
      parameters: unitsPerStep * (perExpert - removed * neurons.parametersPerUnit),
    };
    const next = { from: removed, to: neurons.unitCount - (widths[width + 1] ?? 0) };
    const neuronStep = {
      cost: costOfNeurons(order.neurons, neurons, { remaining, ...next }),
      parameters: remaining.size * (next.to - next.from) * neurons.parametersPerUnit,
    };
    const isExpert =
      width >= last.neurons ||
      (experts < last.experts && expertStep.cost * neuronStep.parameters < neuronStep.cost * expertStep.parameters);
    if (isExpert) {
      for (const expert of expertsOfStep[experts]!) remaining.delete(expert);
      experts += 1;
    } else width += 1;
    const step = isExpert ? expertStep : neuronStep;
    costs.push(step.cost);
    parameters.push(step.parameters);
    losses.push({ experts, neurons: neurons.unitCount - widths[width]! });
  }
  return { costs: Float64Array.from(costs), parameters: Float64Array.from(parameters), losses };
}

/** Loss of a mixture after `stepCount` steps of its allocation. */
export function mixtureLoss(module: PrunableModule, given: MixtureCase & { readonly stepCount: number }): MixtureLoss {
  const { stepCount } = given;
  const steps = mixtureSteps(module, given);
  if (steps === undefined) return { experts: stepCount, neurons: 0 };
  return steps.losses[stepCount - 1] ?? { experts: 0, neurons: 0 };
}

/** Experts by step, in removal order: one of every group. */
function expertsByStep({ unitCount, groupOfUnit, groupCount = 1 }: PrunableModule, scores: Float64Array): number[][] {
  const order = Array.from({ length: unitCount }, (_, expert) => expert).sort(
    (a, b) => scores[a]! - scores[b]! || a - b,
  );
  const groups = Array.from({ length: groupCount }, (_, group) =>
    order.filter((expert) => (groupOfUnit?.[expert] ?? 0) === group),
  );
  return Array.from({ length: unitCount / groupCount }, (_, step) => groups.map((experts) => experts[step]!));
}

/** Numbers of neuron units that an expert may keep, from all down to the minimum, in multiples of `widthMultiple`. */
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
  /** Units removed from each expert before and after. */
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
