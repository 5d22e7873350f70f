import type { Allocation } from '../allocation/allocation.js';
import type { ModuleKind, PrunableModule } from '../architecture/layout.js';
import { cacheBytes } from '../graph/cache-bytes.js';
import { isWholeCache } from '../graph/cache-names.js';
import { withoutEmbeddingPrefix } from '../graph/join-embedding.js';
import { findDataType } from '../onnx/data-types.js';
import { measureModel } from '../onnx/save-model.js';
import type { ResolvedQuantisation } from '../options/quantisation.js';
import { bitsOf, type LeverName, type ResolvedShrink } from '../options/shrink.js';
import { splitDraftWindows } from '../prune/drafts.js';
import type { PruneJob } from '../prune/job.js';
import type { DenseMeasures } from '../prune/measure-dense/dense-measures.js';
import type { MeasuredModel } from '../prune/measure-dense/measure-dense.js';
import { selectModules } from '../prune/select-modules.js';
import { allocationOf, type CodedForm, createDraftMeter } from '../prune/size/measure-draft.js';
import { type Bits, type Mixture, type SizeProblem, uniformMixture } from '../prune/size/mixtures.js';
import { checkSmallest, createSizeSearch, type SizeCandidate } from '../prune/size/search-size.js';
import { matchBytes, placeholderCuts, sizeProblemOf } from '../prune/size/size-problem.js';
import { DTYPES, type DtypeName } from '../quantisation/dtypes.js';
import { applyChange } from '../removal/apply-change.js';
import { shrinkSteps } from '../removal/plan-removal.js';
import { pruneNoPastBranch } from '../removal/prune-no-past-branch.js';
import { storeInMemory } from '../removal/repair-linear.js';
import { formatBytes } from '../report/format-quantity.js';
import type { SizeReport } from '../report/report-schema.js';
import type { ModelFolder } from '../storage/model-folder.js';
import { withScratchWeights } from '../storage/scratch-weights.js';
import { type JobContext, withPart } from './job-context.js';
import { layoutOf } from './name-variants.js';
import type { Stages } from './stages.js';
import { countBytes, makeVariants } from './write-variants.js';

/** A model that is to fit a size. */
export interface SizeInput {
  readonly stages: Pick<Stages, 'quantise'>;
  readonly folder: ModelFolder;
  readonly job: Omit<PruneJob, 'store'>;
  /** In the dtype of the fewest bits, where bits are allowed. */
  readonly quantisation: ResolvedQuantisation;
  readonly shrink: ResolvedShrink;
}

/** How a result of a size is made. */
export interface ChosenForm {
  readonly sparsity: number;
  readonly allocation: Allocation;
  readonly quantisation: ResolvedQuantisation;
  readonly report: SizeReport;
}

const KIND_OF = { neurons: 'ffn', heads: 'attention', experts: 'experts' } as const satisfies Record<
  Exclude<LeverName, 'bits'>,
  ModuleKind
>;

/** Refuses sizes that cannot be met, before the model is measured. @throws OptionError naming the smallest that can. */
export async function checkSizes(context: JobContext, input: SizeInput): Promise<void> {
  const { options } = input.job;
  const modules = modulesOf(input, selectModules(input.job).modules);
  const dense: DenseMeasures = { functional: new Map(), orders: ordersOfZero(modules, options.headUnit) };
  const { problem, bytesOf } = await prepareProblem(context, input, { modules, dense });
  await checkSmallest(
    { problem, bytesOf },
    { option: input.shrink.option, targets: input.shrink.targets.map(({ bytes }) => bytes), describe: formatBytes },
  );
}

const ordersOfZero = (modules: readonly PrunableModule[], headUnit: PruneJob['options']['headUnit']) =>
  new Map(
    modules.map((module) => [
      module,
      {
        scores: new Float64Array(module.unitCount),
        costs: new Float64Array(shrinkSteps(module, headUnit).stepCount),
      },
    ]),
  );

/** Prepares the choice for every size: the dense model's measurements serve all of them. */
export function prepareSizes(context: JobContext, input: SizeInput, measured: MeasuredModel) {
  const { job, shrink } = input;
  let opening: ReturnType<typeof open> | undefined;
  const open = async () => {
    const modules = modulesOf(input, measured.modules);
    const { problem, bytesOf, form } = await prepareProblem(context, input, { modules, dense: measured.dense });
    const measure = createDraftMeter({
      measured: { ...measured, modules },
      ...splitDraftWindows(job.windows),
      form,
      withStore: (action) => withScratchWeights(context.platform, action),
    });
    return createSizeSearch({
      ...{ problem, bytesOf, measure },
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
      allocation: allocationOf(measured.modules, job.options.headUnit, mixture.steps),
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
  const counts = new Map<Bits, number>();
  for (const bits of mixture.bits.values()) counts.set(bits, (counts.get(bits) ?? 0) + 1);
  return {
    kind,
    bytes,
    sparsity: mixture.sparsity,
    maps: Object.fromEntries([...counts].sort(([a], [b]) => b - a).map(([bits, count]) => [`q${bits}`, count])),
    divergence: { pruning: cost.pruning, quantising: cost.quantising },
    ...(predicted !== undefined && { predicted }),
    chosen,
  };
}

const modulesOf = ({ shrink: { allow } }: SizeInput, modules: readonly PrunableModule[]): PrunableModule[] => {
  const kinds = new Set<ModuleKind>([...allow].flatMap((lever) => (lever === 'bits' ? [] : KIND_OF[lever])));
  return modules.filter(({ kind }) => kinds.has(kind));
};

/** The size problem, matched to the bytes of the dense model's files. */
async function prepareProblem(
  context: JobContext,
  input: SizeInput,
  { modules, dense }: { readonly modules: readonly PrunableModule[]; readonly dense: DenseMeasures },
) {
  const { job, quantisation, shrink } = input;
  const [base] = quantisation.dtypes;
  const form: CodedForm | undefined = base === undefined ? undefined : { ...quantisation, dtype: DTYPES[base] };
  const bits = shrink.dtypes.map(bitsOf);
  const { model, analysed, options } = job;
  const problem = sizeProblemOf({
    ...{ model, analysed, options, modules, dense, form, bits },
    cachedBytes: shrink.contextLength === undefined ? 0 : shrink.contextLength * cacheElementBytes(input),
  });
  const bytesOf = (mixture: Pick<Mixture, 'bits' | 'steps'>) => countMixture(context, input, modules, mixture);
  const [most] = bits;
  const largest: Pick<Mixture, 'bits' | 'steps'> =
    most === undefined ? { bits: new Map(), steps: new Map() } : uniformMixture(problem, most);
  const matched: SizeProblem = matchBytes(problem, await bytesOf(largest));
  return { problem: matched, bytesOf, form };
}

/** Bytes of the files that a mixture takes: its graph is written with placeholder weights, in memory. */
function countMixture(
  { onProgress: _, ...context }: JobContext,
  input: SizeInput,
  modules: readonly PrunableModule[],
  mixture: Pick<Mixture, 'bits' | 'steps'>,
): Promise<number> {
  const { folder, job, stages } = input;
  const { model: dense, analysed, engine, options } = job;
  return withPart(context, async (part) => {
    const cuts = placeholderCuts(modules, options.headUnit, mixture.steps);
    const model = applyChange(dense, analysed, { modules: cuts, changed: new Map() });
    const change = { modules: cuts.map((cut) => ({ ...cut, numerics: [] })), changed: new Map() };
    const quantisation = quantisationOf(input, mixture);
    const [variant] = await makeVariants(part, stages, {
      folder,
      job: {
        ...job,
        ...{ store: storeInMemory, windows: [], journal: undefined },
        options: { ...options, onProgress: undefined },
      },
      outcome: { model, ...change, dense: { functional: new Map() }, timings: [], remarks: [] },
      quantisation: { ...quantisation, rounding: 'none' },
      layout: layoutOf(folder, quantisation.layout),
      dtypes: quantisation.dtypes,
    });
    const { contextLength } = input.shrink;
    const cached =
      contextLength === undefined ? 0 : cacheBytes(model.proto.graph!, contextLength, cacheElementBytes(input));
    if (variant !== undefined) return cached + (await countBytes(variant, folder)).byteLength;
    return (
      cached + measureModel(await pruneNoPastBranch(withoutEmbeddingPrefix(model), change, engine), folder.modelFile)
    );
  });
}

/** Bytes of one element of the KV cache. */
function cacheElementBytes({ quantisation: { dtypes }, job }: SizeInput): number {
  const [dtype] = dtypes;
  if (dtype !== undefined) return DTYPES[dtype].floats === 'float16' ? 2 : 4;
  const past = job.analysed.inputs.find(isWholeCache);
  return (findDataType(past?.dataType ?? 1)?.bits ?? 32) / 8;
}

/** How a mixture is written: the file is named by the fewest bits in it, which a runtime must support. */
function quantisationOf({ quantisation, shrink }: SizeInput, { bits }: Pick<Mixture, 'bits'>): ResolvedQuantisation {
  if (shrink.dtypes.length === 0) return quantisation;
  const fewest = Math.min(...bits.values());
  const name = shrink.dtypes.find((dtype) => bitsOf(dtype) <= fewest) ?? shrink.dtypes.at(-1);
  return { ...quantisation, dtypes: [name as DtypeName], bits };
}
