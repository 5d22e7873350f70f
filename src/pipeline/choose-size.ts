import type { GraphProto } from 'onnx-buf';
import { type Allocation, parametersOf } from '../allocation/allocation.js';
import type { ModuleKind, PrunableModule } from '../architecture/layout.js';
import { isFullCache } from '../onnx/cache-names.js';
import { FLOAT32, findDataType } from '../onnx/data-types.js';
import { withoutEmbeddingPrefix } from '../onnx/join-embedding.js';
import { readModelInputs } from '../onnx/model-inputs.js';
import type { OnnxModel } from '../onnx/onnx-model.js';
import { isHalfPrecision } from '../onnx/retype-floats.js';
import { measureModel } from '../onnx/save-model.js';
import type { ResolvedQuantisation } from '../options/quantisation.js';
import { bitsOf, type ChosenReduction, type ResolvedShrink } from '../options/shrink.js';
import { zeroOrders } from '../prune/check-run.js';
import { splitDraftWindows } from '../prune/drafts.js';
import { estimateRounding } from '../prune/estimate-rounding.js';
import type { PruneJob } from '../prune/job.js';
import type { MeasuredModel } from '../prune/measure-dense/measure-dense.js';
import { allocationOf, type CodedForm, createDraftMeter } from '../prune/measure-draft.js';
import {
  BLOCK_SIZES,
  type Mixture,
  mixturesAt,
  type SizeProblem,
  sumOfRounding,
  uniformMixture,
} from '../prune/mixtures.js';
import { estimateRoundingCosts, type PlannedMixture, planSize } from '../prune/plan-size.js';
import {
  checkSmallest,
  createSizeSearch,
  findSmallest,
  type SizeCandidate,
  type SizeSearch,
  type SmallestSize,
  withBits,
} from '../prune/search-size.js';
import { selectModules } from '../prune/select-modules.js';
import { matchBytes, placeholderCuts, type SizeSource, sizeProblemOf } from '../prune/size-problem.js';
import { DTYPES, type DtypeName } from '../quantisation/dtypes.js';
import { applyChange } from '../removal/apply-change.js';
import { pruneNoPastBranch } from '../removal/prune-no-past-branch.js';
import { storeInMemory } from '../removal/repair-linear.js';
import { formatBytes } from '../report/format-quantity.js';
import type { SizeReport } from '../report/report-schema.js';
import { type ModelFolder, modelPaths, totalBytes } from '../storage/model-folder.js';
import { withScratchWeights } from '../storage/scratch-weights.js';
import { type JobContext, withPart } from './job-context.js';
import { layoutOf } from './name-variants.js';
import type { Stages } from './stages.js';
import { countBytes, makeVariants } from './write-variants.js';

/** A model, and the target sizes. */
export interface SizeInput {
  readonly stages: Pick<Stages, 'quantise'>;
  readonly folder: ModelFolder;
  readonly job: Omit<PruneJob, 'store'>;
  /** Quantisation options with the dtype of the fewest bits, where bits are allowed. */
  readonly quantisation: ResolvedQuantisation;
  readonly shrink: ResolvedShrink;
}

/** Settings of the result for a size. */
export interface ChosenForm {
  readonly sparsity: number;
  readonly allocation: Allocation;
  readonly quantisation: ResolvedQuantisation;
  readonly report: SizeReport;
}

const KIND_OF = { neurons: 'ffn', heads: 'attention', experts: 'experts' } as const satisfies Record<
  Exclude<ChosenReduction, 'bits'>,
  ModuleKind
>;

/** Refuses unreachable sizes before the model is measured. @throws OptionError with the smallest reachable size */
export async function checkSizes(context: JobContext, input: SizeInput): Promise<void> {
  await checkSmallestOf(context, input, await openProblem(context, input, undefined));
}

async function checkSmallestOf(
  context: JobContext,
  input: SizeInput,
  sized: Pick<SizeSearch, 'problem' | 'bytesOf'>,
): Promise<SmallestSize> {
  const { option, targets } = input.shrink;
  const smallest = await findSmallest(sized);
  checkSmallest(smallest, { option, targets: targets.map(({ bytes }) => bytes), describe: formatBytes });
  await remarkLargerDtypes(context, input, sized);
  return smallest;
}

/** Remarks that the dtypes do not make the model smaller, as where a float16 model gets float32 experts. */
async function remarkLargerDtypes(
  { remarks, platform }: JobContext,
  input: SizeInput,
  { problem, bytesOf }: Pick<SizeSearch, 'problem' | 'bytesOf'>,
): Promise<void> {
  const { shrink, folder, job } = input;
  const { model } = job;
  const fewest = shrink.dtypes.at(-1);
  if (fewest === undefined) return;
  const bytes = (await bytesOf(uniformMixture(problem, bitsOf(fewest)))) - countedCacheBytes(input, model);
  const before = await totalBytes(platform, modelPaths(folder, model));
  if (bytes < before) return;
  const becomesFloat32 =
    DTYPES[fewest].floats === 'float32' &&
    [...model.weights.values()].some(({ dataType }) => isHalfPrecision(dataType));
  const advice = becomesFloat32
    ? `: weights that ${fewest} does not cover, such as those of experts, become float32; choose dtypes q4f16, which keep float16`
    : '; choose dtypes of fewer bits, or leave bits out of allow';
  remarks.push(`the unpruned model takes ${formatBytes(bytes)} in ${fewest} and ${formatBytes(before)} now${advice}`);
}

/** The size problem of an unmeasured model, or from its statistics. */
function openProblem(context: JobContext, input: SizeInput, measured: ObservedModel | undefined) {
  const { options } = input.job;
  const modules = measured?.modules ?? selectModules(input.job).modules;
  const dense = measured?.dense ?? { functional: new Map(), orders: zeroOrders(modules, options) };
  return prepareProblem(context, input, { modules, dense, windowLength: measured?.windowLength ?? 2 });
}

/** A model with saved statistics. */
interface ObservedModel extends MeasuredModel {
  /** Tokens per window of the statistics. */
  readonly windowLength: number;
}

/** Reachable sizes of a model. */
export interface PlannedSizes {
  readonly smallest: SmallestSize;
  /** Bytes without pruning, by dtype. */
  readonly dtypes: readonly { readonly dtype: DtypeName; readonly bytes: number }[];
  /** In the order of the targets. */
  readonly sizes: readonly PlannedSize[];
}

/** A requested size. */
export interface PlannedSize {
  readonly target: number;
  /**
   * Fraction of the prunable parameters to remove if all linear layers have one dtype, in the largest blocks, by dtype, 0 if
   * none; dtypes that cannot meet the size are left out. `float` where bits are not allowed.
   */
  readonly removed: Readonly<Record<string, number>>;
  /** Candidates predicted from statistics, the best first; absent without statistics. */
  readonly candidates?: readonly PlannedCandidate[];
}

/** A candidate for a size, with its predicted cost. */
export interface PlannedCandidate
  extends Omit<SizeReport['candidates'][number], 'divergence' | 'predicted' | 'chosen'> {
  /** Parts of the mean KL(dense || model), in nats per token, predicted from statistics. */
  readonly predicted: { readonly pruning: number; readonly quantising: number };
}

/** Sizes that a model can have, without reading tokens; with statistics also the best candidates of each. @throws OptionError as a run would */
export async function planSizes(
  context: JobContext,
  input: SizeInput,
  measured: ObservedModel | undefined,
): Promise<PlannedSizes> {
  const { shrink } = input;
  const opened = await openProblem(context, input, measured);
  const { problem, bytesOf } = opened;
  const smallest = await checkSmallestOf(context, input, opened);
  const bits = shrink.dtypes.map(bitsOf);
  const dtypes: { dtype: DtypeName; bytes: number }[] = [];
  for (const dtype of shrink.dtypes)
    dtypes.push({ dtype, bytes: await bytesOf(uniformMixture(problem, bitsOf(dtype))) });
  const withCosts = measured && (await estimateProblemCosts(context, input, { ...opened, measured }));
  if (measured !== undefined && withCosts === undefined)
    context.remarks.push('these statistics lack the cost of rounding; create them by observe with method auto');
  const sizes: PlannedSize[] = [];
  for (const { bytes: target } of shrink.targets) {
    const removed = (shrink.dtypes.length === 0 ? [undefined] : shrink.dtypes).flatMap((dtype) => {
      const single = dtype === undefined ? problem : withBits(problem, bitsOf(dtype));
      const mixture = mixturesAt(single, target).at(-1);
      return mixture === undefined ? [] : [[dtype ?? 'float', mixture.sparsity] as const];
    });
    const candidates = withCosts && (await planSize({ problem: withCosts, bits, bytesOf }, target)).map(reportPlanned);
    sizes.push({ target, removed: Object.fromEntries(removed), ...(candidates && { candidates }) });
  }
  return { smallest, dtypes, sizes };
}

const reportPlanned = ({ kind, mixture, bytes }: PlannedMixture): PlannedCandidate => ({
  kind,
  bytes,
  sparsity: mixture.sparsity,
  maps: countByDtype(mixture),
  predicted: { pruning: mixture.estimate.pruning, quantising: sumOfRounding(mixture.estimate) },
});

/** The problem with estimated costs of rounding each linear layer. */
async function estimateProblemCosts(
  context: JobContext,
  input: SizeInput,
  {
    problem,
    form,
    measured,
  }: {
    readonly problem: SizeProblem;
    readonly form: CodedForm | undefined;
    readonly measured: ObservedModel;
  },
): Promise<SizeProblem | undefined> {
  if (form === undefined) return problem;
  const { modules, curvatures, read, windowLength } = measured;
  const { model, analysed, options } = input.job;
  const bits = input.shrink.dtypes.map(bitsOf);
  // Linear layers belong to modules even if no unit may be removed.
  const { weights } = sizeProblemOf({
    model,
    analysed,
    options,
    modules,
    form,
    bits,
    windowLength,
    dense: measured.dense,
    cachedBytes: 0,
  });
  const costs = await context.timed('quantise', () =>
    estimateRounding({ model, modules, form, curvatures, read, weights, windowLength }),
  );
  return costs && estimateRoundingCosts(problem, costs);
}

/** Prepares the choice for every size, from one measurement of the dense model. */
export function prepareSizes(context: JobContext, input: SizeInput, measured: MeasuredModel) {
  const { job, shrink } = input;
  let opening: ReturnType<typeof open> | undefined;
  const open = async () => {
    const { problem, bytesOf, form, modules } = await prepareProblem(context, input, {
      modules: measured.modules,
      dense: measured.dense,
      windowLength: job.windows[0]?.length ?? 2,
    });
    const measure = createDraftMeter({
      measured: { ...measured, modules },
      ...splitDraftWindows(job.windows),
      form,
      withStore: (action) => withScratchWeights(context.platform, action),
    });
    return createSizeSearch({
      problem,
      bytesOf,
      measure,
      bits: shrink.dtypes.map(bitsOf),
      journal: job.journal,
      onDraft: (done, total) => context.onProgress?.({ stage: 'candidates', done, total }),
    });
  };
  return async (targetBytes: number): Promise<ChosenForm> => {
    opening ??= open();
    const search = await opening;
    const { chosen, candidates } = await context.timed('candidates', () => search.choose(targetBytes));
    const { mixture } = chosen;
    return {
      sparsity: mixture.sparsity,
      allocation: allocationOf(measured.modules, { ...measured, options: job.options }, mixture.steps),
      quantisation: quantisationOf(input, mixture),
      report: {
        target: targetBytes,
        ...(shrink.contextLength !== undefined && { contextLength: shrink.contextLength }),
        allow: [...shrink.allow],
        candidates: candidates.map((candidate) => reportCandidate(candidate, candidate === chosen)),
      },
    };
  };
}

function reportCandidate(candidate: SizeCandidate, chosen: boolean): SizeReport['candidates'][number] {
  const { kind, mixture, bytes, predicted, cost } = candidate;
  return {
    kind,
    bytes,
    sparsity: mixture.sparsity,
    maps: countByDtype(mixture),
    divergence: { pruning: cost.pruning, quantising: cost.quantising },
    ...(predicted !== undefined && { predicted }),
    chosen,
  };
}

/** Number of linear layers by dtype and block size, the most bits and the smallest blocks first. */
function countByDtype({ grids }: Pick<Mixture, 'grids'>): Readonly<Record<string, number>> {
  const sorted = [...grids.values()].sort((a, b) => b.bits - a.bits || a.blockSize - b.blockSize);
  const counts = new Map<string, number>();
  for (const { bits, blockSize } of sorted) {
    const name = blockSize === BLOCK_SIZES[0] ? `q${bits}` : `q${bits}/${blockSize}`;
    counts.set(name, (counts.get(name) ?? 0) + 1);
  }
  return Object.fromEntries(counts);
}

const modulesOf = ({ shrink: { allow } }: SizeInput, modules: readonly PrunableModule[]): PrunableModule[] => {
  const kinds = new Set<ModuleKind>(
    [...allow].flatMap((reduction) => (reduction === 'bits' ? [] : KIND_OF[reduction])),
  );
  return modules.filter(({ kind }) => kinds.has(kind));
};

/**
 * The size problem, calibrated to the actual bytes of the dense model's files.
 * @param source Its `modules` are all that can be pruned.
 * @returns Its `modules` are those that may be pruned.
 */
async function prepareProblem(
  context: JobContext,
  input: SizeInput,
  { modules: prunable, dense, windowLength }: Pick<SizeSource, 'modules' | 'dense' | 'windowLength'>,
) {
  const modules = modulesOf(input, prunable);
  const { job, quantisation, shrink } = input;
  const [base] = quantisation.dtypes;
  const form: CodedForm | undefined = base === undefined ? undefined : { ...quantisation, dtype: DTYPES[base] };
  const bits = shrink.dtypes.map(bitsOf);
  const { model, analysed, options } = job;
  const sized = sizeProblemOf({
    model,
    analysed,
    options,
    modules,
    dense,
    form,
    bits,
    cachedBytes: shrink.contextLength === undefined ? 0 : shrink.contextLength * cacheElementBytes(input),
    windowLength,
  });
  const problem = { ...sized, otherParameters: parametersOf(prunable) - parametersOf(modules) };
  const bytesOf = (mixture: Pick<Mixture, 'grids' | 'steps'>) =>
    countMixture(context, input, { modules, dense }, mixture);
  const [most] = bits;
  const largest = most === undefined ? { grids: new Map() } : uniformMixture(problem, most);
  return { problem: await matchBytes(problem, largest, bytesOf), bytesOf, form, modules };
}

/** File bytes of a mixture: its graph is written in memory with placeholder weights. */
function countMixture(
  { onProgress: _, ...context }: JobContext,
  input: SizeInput,
  { modules, dense: measures }: Pick<SizeSource, 'modules' | 'dense'>,
  mixture: Pick<Mixture, 'grids' | 'steps'>,
): Promise<number> {
  const { folder, job, stages } = input;
  const { model: dense, analysed, engine, options } = job;
  return withPart(context, async (part) => {
    const cuts = placeholderCuts(modules, { options, dense: measures }, mixture.steps);
    const model = applyChange(dense, analysed, { modules: cuts, changed: new Map() });
    const change = { modules: cuts.map((cut) => ({ ...cut, numerics: [] })), changed: new Map() };
    const quantisation = quantisationOf(input, mixture);
    const [variant] = await makeVariants(part, stages, {
      folder,
      job: {
        ...job,
        store: storeInMemory,
        windows: [],
        journal: undefined,
        options: { ...options, onProgress: undefined },
      },
      outcome: { model, ...change, dense: { functional: new Map() }, timings: [], remarks: [] },
      quantisation: { ...quantisation, rounding: 'none' },
      layout: layoutOf(folder, quantisation.layout),
      dtypes: quantisation.dtypes,
    });
    const cached = countedCacheBytes(input, model);
    if (variant !== undefined) return cached + (await countBytes(variant, folder)).byteLength;
    return (
      cached + measureModel(await pruneNoPastBranch(withoutEmbeddingPrefix(model), change, engine), folder.modelFile)
    );
  });
}

/** Bytes of a model's KV cache; 0 where the cache does not count. */
const countedCacheBytes = (input: SizeInput, { proto }: OnnxModel): number => {
  const { contextLength } = input.shrink;
  return contextLength === undefined ? 0 : cacheBytes(proto.graph!, contextLength, cacheElementBytes(input));
};

/** Bytes of one element of the KV cache. */
function cacheElementBytes({ quantisation: { dtypes }, job }: SizeInput): number {
  const [dtype] = dtypes;
  if (dtype !== undefined) return DTYPES[dtype].floats === 'float16' ? 2 : 4;
  const past = job.analysed.inputs.find(isFullCache);
  return (findDataType(past?.dataType ?? FLOAT32)?.bits ?? 32) / 8;
}

/** Quantisation options of a mixture: the file is named by its fewest bits, which the runtime must support. */
function quantisationOf({ quantisation, shrink }: SizeInput, { grids }: Pick<Mixture, 'grids'>): ResolvedQuantisation {
  if (shrink.dtypes.length === 0) return quantisation;
  const fewest = Math.min(...[...grids.values()].map(({ bits }) => bits));
  const name = shrink.dtypes.find((dtype) => bitsOf(dtype) <= fewest) ?? shrink.dtypes.at(-1);
  return { ...quantisation, dtypes: [name as DtypeName], grids };
}

/** Bytes of the KV cache and other states of one sequence of `tokenCount` tokens. */
export function cacheBytes(graph: GraphProto, tokenCount: number, bytesPerElement: number): number {
  return readModelInputs(graph)
    .filter((input) => input.role === 'state' || isFullCache(input))
    .reduce((sum, { dims }) => {
      // The first axis is the batch; other open axes are tokens.
      const sizes = dims.map((dim, axis) => (axis === 0 ? 1 : typeof dim === 'number' ? dim : tokenCount));
      return sum + sizes.reduce((product, size) => product * size, bytesPerElement);
    }, 0);
}
