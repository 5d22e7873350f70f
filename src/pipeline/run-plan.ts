import type { OnnxModel } from '../onnx/onnx-model.js';
import { BUDGET } from '../options/budget.js';
import { generatedShare } from '../options/calibration.js';
import { LADDER } from '../options/commands.js';
import { fractionOf } from '../options/kinds.js';
import { MODEL } from '../options/model.js';
import { checkOptions, pickOptions, refusal, rowsOf } from '../options/option.js';
import { learnsRounding, QUANTISATION } from '../options/quantisation.js';
import { type ResolvedRequest, resolveRequest } from '../options/request.js';
import { RUN } from '../options/run.js';
import { TEXT_EVALUATION, type TextEvaluation } from '../options/texts.js';
import { type Fraction, type ResolvedOptions, readsTokens, removesNothing } from '../options.js';
import { checkRun } from '../prune/check-run.js';
import { joinTimings, type StageTiming } from '../prune/job.js';
import { measureSpeed } from '../prune/measure-speed.js';
import { selectModules } from '../prune/select-modules.js';
import { storeInMemory } from '../removal/repair-linear.js';
import type { ModuleReport, PruneReport } from '../report/report-schema.js';
import type { AnalysedModel } from '../runtime/analyse-model.js';
import type { Platform } from '../runtime/platform.js';
import { type ModelFolder, modelPaths, totalBytes } from '../storage/model-folder.js';
import { checkFreeSpace, checkOutputPaths } from './check-output-paths.js';
import { type CostRequest, estimateCost, expectedWindowLength, machineSpeed, modelSize } from './estimate-cost.js';
import { estimateMemory, estimateScratch } from './estimate-resources.js';
import { type JobContext, withJob } from './job-context.js';
import type { LadderRequest } from './prune-request.js';
import { entireModelBytes } from './refuse-too-large.js';
import { resultPaths, runLadder } from './run-prune.js';
import { resolveStages, type Stages } from './stages.js';
import { storeFactory } from './store-factory.js';
import { countTokens, prepareTexts } from './text-evaluation.js';
import type { ResultPaths } from './write-result.js';

/** Estimated results and time of a run. */
export interface PrunePlan extends Pick<PruneReport, 'model' | 'method'> {
  /** Name of the allocation. */
  readonly allocation: string;
  /** In the order of the sparsities. */
  readonly results: readonly PlannedResult[];
  /** Calibration windows of the run; absent for methods that read none. */
  readonly calibration?: PlannedWindows;
  /** Expected wall time by stage, in order. */
  readonly stages: readonly StageTiming[];
  /** Expected total time on this machine under its current load. */
  readonly ms: number;
  /** Approximate peak memory. */
  readonly memoryBytes: number;
  /** Largest temporary disk space in addition to the output. */
  readonly scratchBytes: number;
  /** Modules that cannot be pruned, and the effect of a sparsity in a single kind of module. */
  readonly remarks: readonly string[];
}

export interface PlannedWindows {
  readonly windowCount: number;
  readonly windowLength: number;
  /** Number of generated windows among them. */
  readonly writtenCount: number;
}

/** Sizes of a result, without rounding of widths to units. */
export interface PlannedResult extends Pick<PruneReport, 'sparsity' | 'parameters' | 'bytes' | 'dtypes'> {
  /** Units by module, if they depend only on the sparsity; absent if the run measures them. */
  readonly widths?: readonly Pick<ModuleReport, 'block' | 'kind' | 'unitsBefore' | 'unitsAfter'>[];
}

/** A run of one or several sparsities. */
export interface PlanRequest extends Omit<LadderRequest, 'sparsity'> {
  /** As for `prune`, or a list as for `pruneLadder`. */
  readonly sparsity: Fraction | readonly Fraction[];
}

/**
 * Estimates a run without reading text: makes the run's checks, counts the sizes of uniform pruning, and times a few
 * batches of tokens in one block.
 * @throws OptionError, ModelFormatError, UnsupportedModelError as the run would.
 */
export async function runPlan(platform: Platform, request: PlanRequest): Promise<PrunePlan> {
  const sparsity: readonly Fraction[] = [request.sparsity].flat();
  const ladder = checkOptions<LadderRequest>({ ...request, sparsity }, rowsOf(LADDER));
  if (request.statistics !== undefined)
    throw refusal(
      'statistics',
      'has no effect on estimates: a run from statistics does not measure the model; leave it out',
    );
  const resolved = resolveRequest({ ...ladder, dryRun: request.out === undefined });
  const { options, calibration } = resolved;
  const places = resultPaths(platform.files, ladder, Array.isArray(request.sparsity));
  return withJob(platform, options, async (context) => {
    const inspected = await inspect(context, ladder, resolved, places);
    const { windowLength } = inspected;
    const stages = joinTimings(
      estimateCost({
        ...resolved,
        ...inspected,
        resultCount: sparsity.length,
        certifies: request.certify !== false,
        measuresQuality: request.evaluation !== false,
        quotes: request.report !== false && request.quoteText !== false,
      }),
    );
    const { windowCount } = calibration;
    const writtenCount = Math.round(windowCount * generatedShare(calibration));
    const reports = await runLadder(platform, placeholderRun(ladder, inspected));
    return {
      model: request.model,
      method: options.methodName,
      allocation: options.allocationName,
      results: reports.map((report) => planResult(report, options.allocationName)),
      ...(readsTokens(options) && { calibration: { windowCount, windowLength, writtenCount } }),
      stages,
      ms: stages.reduce((sum, { ms }) => sum + ms, 0),
      memoryBytes: inspected.memoryBytes,
      scratchBytes: inspected.scratchBytes,
      remarks: [...new Set(ladder.sparsity.flatMap((one) => selectionRemarks(inspected, options, one)))],
    };
  });
}

function selectionRemarks({ analysed }: Inspected, resolved: ResolvedOptions, sparsity: Fraction): readonly string[] {
  const options = { ...resolved, sparsity: fractionOf(sparsity) };
  return removesNothing(options) ? [] : selectModules({ analysed, options }).remarks;
}

/** Facts about the model and the machine. */
interface Inspected extends Pick<CostRequest, 'size' | 'windowLength' | 'evaluated' | 'speed'> {
  readonly folder: ModelFolder;
  readonly model: OnnxModel;
  readonly analysed: AnalysedModel;
  readonly scratchBytes: number;
  readonly memoryBytes: number;
}

/** Makes the checks of a run in order, and measures the speed. */
async function inspect(
  context: JobContext,
  { force = false, evaluation, certify, model: path, embeddings, offline, bos, stages, ...request }: LadderRequest,
  { options, quantisation, calibration }: ResolvedRequest,
  places: readonly ResultPaths[],
): Promise<Inspected> {
  const { platform } = context;
  const { open, load, analyse } = resolveStages(stages);
  const folder = await open.run(context, { model: path, embeddings, offline, bos });
  await checkOutputPaths(folder, places, { force, calibration });
  const texts = typeof evaluation === 'object' ? await prepareTexts(evaluation, folder) : undefined;
  const model = await load.run(context, folder);
  const engine = await platform.createEngine(request);
  const analysed = await analyse.run(context, { model, engine });
  const denseBytes = await totalBytes(platform, modelPaths(folder, model));
  const windowLength = await expectedWindowLength(calibration, folder);
  const tokenCount = calibration.windowCount * windowLength;
  const lowest = Math.min(...request.sparsity.map(fractionOf));
  const scratchBytes = estimateScratch({
    analysed,
    options,
    tokenCount,
    windowLength,
    modelBytes: denseBytes,
    sparsity: lowest,
    certifies: certify !== false,
  });
  await checkFreeSpace(folder, places, { force, denseBytes, scratchBytes });
  const createStore = storeFactory(context, 0);
  const job = { model, analysed, engine, options, createStore, store: storeInMemory };
  checkRun(job, request.sparsity.map(fractionOf));
  const measured = await context.timed('time', () => measureSpeed(job, windowLength));
  const writes = readsTokens(options) && calibration.generate !== undefined;
  const opensModel = certify !== false || evaluation !== false || writes || learnsRounding(quantisation);
  const { prompts = [], newTokens = TEXT_EVALUATION.newTokens.default } =
    typeof evaluation === 'object' ? evaluation : ({} as TextEvaluation);
  return {
    folder,
    model,
    analysed,
    windowLength,
    scratchBytes,
    memoryBytes: estimateMemory({
      analysed,
      options,
      quantisation,
      ...(opensModel && { entireModelBytes: await entireModelBytes(engine, folder) }),
    }),
    size: modelSize(analysed),
    speed: machineSpeed(measured),
    evaluated: {
      modelCount: 1 + request.sparsity.length,
      tokenCount: countTokens(texts),
      newTokens: prompts.length * newTokens,
    },
  };
}

const { allocation: _, minimumWidth: __, shots: ___, ...WIDTHS } = BUDGET;
const { rounding: ____, ...FORM } = QUANTISATION;
const SIZE_OPTIONS = { ...WIDTHS, ...FORM, ...MODEL, seed: RUN.seed };

/**
 * A run with random units, uniform over blocks, and zero weights, whose sizes are those of the real run. The model is
 * not read again.
 */
function placeholderRun(request: LadderRequest, { folder, model, analysed }: Inspected): LadderRequest {
  const given = resolveStages(request.stages);
  const quantise: Stages['quantise'] = {
    name: 'quantise',
    run: (context, input) => given.quantise.run(context, { ...input, request: { ...input.request, rounding: 'none' } }),
  };
  return {
    ...(pickOptions(request, SIZE_OPTIONS) as LadderRequest),
    method: 'random',
    dryRun: true,
    report: false,
    ...(request.dtype !== undefined && { rounding: 'nearest' as const }),
    stages: {
      ...request.stages,
      quantise,
      open: {
        name: 'open',
        run: async (context, input) => (input.model === request.model ? folder : given.open.run(context, input)),
      },
      load: {
        name: 'load',
        run: async (context, input) => (input === folder ? model : given.load.run(context, input)),
      },
      analyse: {
        name: 'analyse',
        run: async (context, input) => (input.model === model ? analysed : given.analyse.run(context, input)),
      },
    },
  };
}

function planResult({ sparsity, parameters, bytes, dtypes, modules }: PruneReport, allocation: string): PlannedResult {
  const widths = modules.map(({ block, kind, unitsBefore, unitsAfter }) => ({ block, kind, unitsBefore, unitsAfter }));
  return { sparsity, parameters, bytes, ...(dtypes && { dtypes }), ...(allocation === 'uniform' && { widths }) };
}
