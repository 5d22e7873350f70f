import type { ModuleMeasures } from '../allocation/allocation.js';
import type { PrunableModule } from '../architecture/layout.js';
import type { ChannelTrace } from '../architecture/trace-channels.js';
import type { WeightGrid } from '../quantisation/block-codes.js';
import { gridForCodes } from '../quantisation/coded-handle.js';
import { DTYPES } from '../quantisation/dtypes.js';
import { codesBeforeCut } from '../quantisation/keep-blocks.js';
import { codesByteLength } from '../quantisation/store-codes.js';
import type { ModuleCut } from '../removal/apply-change.js';
import { shrinkSteps } from '../removal/plan-removal.js';
import type { UnderstoodModel } from '../runtime/analyse-model.js';
import { measuresOf, type StepCounts } from './allocate-modules.js';
import type { PruneJob } from './job.js';
import type { DenseMeasures } from './measure-dense/dense-measures.js';
import type { CodedForm } from './measure-draft.js';
import { mixtureLoss } from './mixture-steps.js';
import {
  type Bits,
  BLOCK_SIZES,
  describeMixture,
  largestBytes,
  type Mixture,
  type SizedForm,
  type SizedModule,
  type SizedWeight,
  type SizeProblem,
  smallestMixture,
} from './mixtures.js';
import { nats } from './nats.js';
import { type PlannedWeight, planWeights } from './plan-weights.js';

/** Inputs that decide a model's size. */
export interface SizeSource extends UnderstoodModel, Pick<PruneJob, 'options'> {
  /** Modules that may be pruned. */
  readonly modules: readonly PrunableModule[];
  readonly dense: DenseMeasures;
  /** Absent: weights keep their form. */
  readonly form: CodedForm | undefined;
  /** Numbers of bits that a linear layer may have, the most first. */
  readonly bits: readonly Bits[];
  /** Bytes per channel of keys or values in the KV cache; 0 if caches do not count. */
  readonly cachedBytes: number;
  /** Tokens of a window on which costs were measured. */
  readonly windowLength: number;
}

/** Assumed bytes of an expert's weight, until `matchBytes` corrects it. */
const FLOAT_BYTES = 4;

/** Parts of a model that can be made smaller; bytes are estimates until `matchBytes` scales them to the files'. */
export function sizeProblemOf(source: SizeSource): SizeProblem {
  const { modules: prunable, options, dense, cachedBytes, windowLength } = source;
  const inNats = ({ order, ...measures }: ModuleMeasures): ModuleMeasures => ({
    ...measures,
    ...(order && { order: { ...order, costs: order.costs.map((cost) => nats(cost, windowLength)) } }),
  });
  const modules = prunable.map((module) => ({
    ...inLargeSteps(inNats(measuresOf(module, options, { dense, modules: prunable }))),
    index: module.index,
    otherBytes: module.kind === 'experts' ? module.parameterCount * FLOAT_BYTES : cachedChannels(module) * cachedBytes,
  }));
  return {
    weights: weightsOf(source, modules),
    modules,
    fixedBytes: 0,
    evenHeads: !options.perBlockKvHeads,
  };
}

/** Fewest steps of an FFN whose widths may be multiples of a larger block. */
const MIN_STEPS = 16;

/** An FFN that loses as many neurons at once as leaves its output projection the largest blocks. */
function inLargeSteps(module: ModuleMeasures): ModuleMeasures {
  const { kind, stepCount, multiple } = module;
  const sizes = BLOCK_SIZES.filter((size) => size % multiple === 0 && stepCount / size >= MIN_STEPS);
  return { ...module, multiple: (kind === 'ffn' ? sizes.at(-1) : undefined) ?? multiple };
}

/** Channels of keys and values that a module caches per token, which are removed with its heads. */
function cachedChannels(module: PrunableModule) {
  const {
    index,
    kind,
    attentionType = 'full',
    keyValueSource = index,
    kvHeadCount = 0,
    unitSize,
    headsPerUnit = 1,
  } = module;
  const isCached = kind === 'attention' && attentionType === 'full' && kvHeadCount > 1 && keyValueSource === index;
  return isCached ? (2 * kvHeadCount * unitSize) / headsPerUnit : 0;
}

type BytesOf = (mixture: Pick<Mixture, 'grids' | 'steps'>) => Promise<number>;

/**
 * Corrects the estimates, so that those of the entire model and of removed experts equal the bytes in files.
 * @param largest The mixture of all units with the most bytes.
 */
export async function matchBytes(
  given: SizeProblem,
  largest: Pick<Mixture, 'grids'>,
  bytesOf: BytesOf,
): Promise<SizeProblem> {
  const bytes = await bytesOf({ ...largest, steps: new Map() });
  const problem = await matchExperts(given, bytes, (steps) => bytesOf({ ...largest, steps }));
  const estimate = largestBytes(problem);
  const isCoded = problem.weights.some(({ forms }) => forms[0]!.grid !== undefined);
  if (isCoded) return { ...problem, fixedBytes: bytes - estimate };
  const ofExperts = problem.modules.reduce(
    (sum, { kind, otherBytes }) => sum + (kind === 'experts' ? otherBytes : 0),
    0,
  );
  const scale = (bytes - ofExperts) / (estimate - ofExperts);
  return {
    ...problem,
    weights: problem.weights.map((weight) => ({
      ...weight,
      forms: weight.forms.map((form) => ({ ...form, bytes: form.bytes * scale })),
    })),
    modules: scaleOtherBytes(problem, scale, ({ kind }) => kind !== 'experts'),
  };
}

/** Corrects the bytes of experts, which may be codes or float16, by the bytes that files lose with all removable experts. */
async function matchExperts(
  problem: SizeProblem,
  bytes: number,
  bytesWithout: (steps: StepCounts) => Promise<number>,
): Promise<SizeProblem> {
  const isExperts = ({ kind }: SizedModule) => kind === 'experts';
  const smallest = smallestMixture(problem).steps;
  const steps = new Map(
    problem.modules.filter(isExperts).flatMap(({ index }) => {
      const count = smallest.get(index) ?? 0;
      return count > 0 ? [[index, count] as const] : [];
    }),
  );
  if (steps.size === 0) return problem;
  const forms = problem.weights.map((weight) => weight.forms[0]!);
  const lossOf = (one: SizeProblem) => largestBytes(one) - describeMixture(one, forms, steps).bytes;
  const ofWeights = lossOf({ ...problem, modules: scaleOtherBytes(problem, 0, isExperts) });
  const scale = (bytes - (await bytesWithout(steps)) - ofWeights) / (lossOf(problem) - ofWeights);
  return { ...problem, modules: scaleOtherBytes(problem, scale, isExperts) };
}

const scaleOtherBytes = (
  { modules }: SizeProblem,
  scale: number,
  isScaled: (module: SizedModule) => boolean,
): SizedModule[] =>
  modules.map((module) => (isScaled(module) ? { ...module, otherBytes: module.otherBytes * scale } : module));

function weightsOf({ model, analysed, form, bits }: SizeSource, modules: readonly SizedModule[]): SizedWeight[] {
  const byIndex = new Map(modules.map((module) => [module.index, module]));
  const { traces, sharedKeyValues } = analysed.detected;
  const moduleOf = (weight: PlannedWeight) => {
    const carries = ({ labels }: ChannelTrace) =>
      weight.products.some(({ input, result }) => labels.has(input) || labels.has(result));
    const sources = sharedKeyValues.filter(({ trace }) => carries(trace)).map(({ members: [first] }) => first!);
    return [...traces.keys()]
      .filter((index) => carries(traces[index]!))
      .concat(sources)
      .flatMap((index) => byIndex.get(index) ?? [])
      .at(0);
  };
  /** Whether blocks are whole after every removal: a row that ends inside a block is padded. */
  const keepsBlocks = ({ products, inCount }: PlannedWeight, blockSize: number, module: SizedModule | undefined) => {
    if (module === undefined || !products.some(({ input }) => traces[module.index]?.labels.has(input))) return true;
    return ((inCount / module.stepCount) * module.multiple) % blockSize === 0;
  };
  const bytesOf = ({ name, grid, outCount, inCount }: PlannedWeight) =>
    grid === undefined ? (model.weights.get(name)?.byteLength ?? 0) : codesByteLength(grid, outCount, inCount);
  const dtype = form?.dtype ?? DTYPES.fp32;
  const settings = { ...(form ?? { blockSize: BLOCK_SIZES[0], symmetric: false }), grids: new Map() };
  const plain = planWeights(model, analysed, dtype, settings);
  const planIn = (grid: WeightGrid) =>
    planWeights(model, analysed, dtype, { ...settings, grids: new Map(plain.map(({ name }) => [name, grid])) });
  const plans = bits.map((own) => ({ own, planned: BLOCK_SIZES.map((blockSize) => planIn({ bits: own, blockSize })) }));
  return plain.map((weight, at) => {
    const module = moduleOf(weight);
    const { codes } = codesBeforeCut(model.weights.get(weight.name)!, weight.inputAxis) ?? {};
    const source = codes && gridForCodes(codes, weight.inputAxis, weight.inCount);
    const forms: SizedForm[] = [];
    for (const { own, planned } of plans) {
      // Not all weights can have every grid.
      const possible = planned.flatMap((all) => {
        const { grid } = all[at]!;
        return grid?.bits === own ? [{ grid: { bits: own, blockSize: grid.blockSize }, bytes: bytesOf(all[at]!) }] : [];
      });
      // In the grid of its own codes a weight costs nothing, which tells nothing about the cost of other blocks.
      const known = possible.find(({ grid }) => source?.bits === own && grid.blockSize === source.blockSize);
      const useful = possible.filter(({ grid }, size) => size === 0 || keepsBlocks(weight, grid.blockSize, module));
      // Larger blocks may need more padding, and so more bytes.
      for (const form of known ? [known] : useful)
        if (form.bytes < (forms.at(-1)?.bytes ?? Number.POSITIVE_INFINITY)) forms.push({ ...form, cost: 0 });
    }
    return {
      name: weight.name,
      isTable: weight.part === 'embedding' || weight.part === 'head',
      module: module?.index,
      forms: forms.length > 0 ? forms : [{ bytes: bytesOf(weight), cost: 0 }],
    };
  });
}

/** Cuts for counting bytes: each module loses the right number of units, but not the units that a run would choose. */
export function placeholderCuts(
  modules: readonly PrunableModule[],
  { options, dense }: Pick<SizeSource, 'options' | 'dense'>,
  steps: StepCounts,
): ModuleCut[] {
  const { headUnit } = options;
  return modules.flatMap((module) => {
    const count = steps.get(module.index) ?? 0;
    if (count === 0) return [];
    const { unitCount, groupOfUnit } = module;
    const { stepCount } = shrinkSteps(module, headUnit);
    const units = Int32Array.from({ length: unitCount }, (_, unit) => unit);
    if (module.kind === 'experts') {
      const loss = mixtureLoss(module, { options, order: dense.orders?.get(module), stepCount: count });
      const keep = firstOfGroups(units, groupOfUnit, stepCount - loss.experts);
      const width = (module.neurons?.unitCount ?? 0) - loss.neurons;
      const neurons = Int32Array.from({ length: keep.length * width }, (_, at) => at % width);
      return [{ module, keep, ...(loss.neurons > 0 && { neurons }) }];
    }
    const keep =
      groupOfUnit === undefined || headUnit === 'query'
        ? firstOfGroups(units, groupOfUnit, stepCount - count)
        : units.filter((unit) => groupOfUnit[unit]! < stepCount - count);
    return [{ module, keep }];
  });
}

function firstOfGroups(units: Int32Array, groupOfUnit: Int32Array | undefined, leftCount: number): Int32Array {
  const countOf = new Map<number, number>();
  return units.filter((unit) => {
    const group = groupOfUnit?.[unit] ?? 0;
    const rank = countOf.get(group) ?? 0;
    countOf.set(group, rank + 1);
    return rank < leftCount;
  });
}
