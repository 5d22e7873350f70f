import { createErrorMeter, type ErrorMeter, type OutputError } from './activations/measure-output-error.js';
import type { PrunableModule } from './architecture/layout.js';
import type { RepairNumerics } from './compensation/adapter.js';
import { OptionError, UnsupportedModelError } from './errors.js';
import { copyModel } from './onnx/edit-weights.js';
import type { OnnxModel } from './onnx/onnx-model.js';
import { refuseNaN } from './onnx/refuse-nan.js';
import { type ResolvedOptions, ruleMeasure } from './options.js';
import { allocateSteps } from './prune/allocate-steps.js';
import { judgeSegment } from './prune/judge-segment.js';
import { type DenseNeeds, type DenseObservation, observeDense } from './prune/observe-dense.js';
import { type Run, startRun } from './prune/run.js';
import type { ScoredModule } from './removal/judge-module.js';
import { removeUnits } from './removal/remove-units.js';
import { addLinearBias, type StoreTensor, writeLinearWeight } from './removal/repair-linear.js';
import { tidyModel } from './removal/tidy-model.js';
import type { AnalysedModel } from './runtime/analyse-model.js';
import type { Engine } from './runtime/engine.js';
import type { HiddenStates } from './runtime/hidden-states.js';

/** What a pruning run works on; where it comes from and goes to is the entry's business. */
export interface PruneJob {
  readonly model: OnnxModel;
  readonly analysed: AnalysedModel;
  readonly engine: Engine;
  /** Token windows of equal length; may be empty for methods that look at no token. */
  readonly windows: readonly Int32Array[];
  readonly options: ResolvedOptions;
  /** Keeps rewritten weights until the model is saved. */
  readonly store: StoreTensor;
  /** Makes a place where the hidden states of `windowCount` windows wait, between blocks or for the way back. */
  createStates(windowCount: number): HiddenStates | Promise<HiddenStates>;
  /** Context centres known already in the space of an FFN's principal components, see `ClusteringInput`; else they are fitted. */
  centersOf?(module: PrunableModule): Float64Array | undefined;
}

/** One module after pruning. */
export interface ModuleOutcome {
  readonly module: PrunableModule;
  /** Units that stay, ascending. */
  readonly keep: Int32Array;
  /** What was added to the output map's result, if anything. */
  readonly bias?: Float64Array | undefined;
  /** What the output map's result lost on the calibration tokens; absent for methods that look at none. */
  readonly error?: OutputError | undefined;
  /** How well posed the repair of each function group was (one group without FANG), as far as it solved anything. */
  readonly numerics: readonly (RepairNumerics | undefined)[];
}

/** Wall time of one stage. */
export interface StageTiming {
  readonly stage: string;
  readonly ms: number;
}

/** The pruned model and what happened on the way. */
export interface PruneOutcome {
  readonly model: OnnxModel;
  readonly modules: readonly ModuleOutcome[];
  /** What was seen of the dense model: block change, contexts, function groups. */
  readonly dense: DenseObservation;
  readonly timings: readonly StageTiming[];
  /** What a reader of the report should know: raised dampenings, units that could not be removed. */
  readonly remarks: readonly string[];
}

/**
 * Prunes a model: the one place that knows the order of the stages.
 *
 * Look at the dense model as far as the method needs it (forwards for contexts and block change, backwards for affinity);
 * spread the sparsity; then block by block, each measured on what the pruned blocks before it produce: score the units,
 * choose what leaves, narrow the graph, repair the output map, and move the hidden states on through what is left.
 * The model given stays as it is. Saving the result raises a NumericalError where a weight that no stage read holds NaN.
 */
export async function pruneModel(given: PruneJob): Promise<PruneOutcome> {
  const job = { ...given, model: refuseNaN(given.model) };
  const { options, analysed } = job;
  const { layout } = analysed.detected;
  const { adapter } = options;
  const selected = selectModules(job);
  const needs = denseNeeds(selected, options);
  const run = startRun(job, countPasses(needs, options));
  const dense = await observeDense(run, needs);
  const counts = await allocateSteps(run, selected, dense);
  const shrinking = selected.filter(({ index }) => (counts.get(index) ?? 0) > 0);
  const lastSegment = Math.max(0, ...shrinking.map(({ segment }) => segment));
  const model = copyModel(job.model);
  const outcomes: ModuleOutcome[] = [];
  const meter = await createErrorMeter(job.engine);
  const runner = adapter.needs === 'none' || shrinking.length === 0 ? undefined : await run.startRunner(model);
  try {
    if (runner !== undefined) await run.advance(runner);
    for (const segment of layout.segments.filter(({ index }) => index <= lastSegment)) {
      const modules = shrinking.filter((module) => module.segment === segment.index);
      const scored = await judgeSegment(run, { model, runner, modules, adapter, functional: dense.functional });
      for (const [at, module] of modules.entries()) {
        options.signal?.throwIfAborted();
        const shrinking = { module, scored: scored[at]!, stepCount: counts.get(module.index)!, meter };
        outcomes.push(await shrink(run, model, shrinking));
      }
      if (runner !== undefined && segment.index < lastSegment) await run.advance(runner);
    }
  } finally {
    await Promise.all([runner?.dispose(), meter.release()]);
  }
  tidyModel(model);
  return { model, modules: outcomes, dense, timings: run.timings(), remarks: run.remarks };
}

/** What the options want to know of the dense model. */
function denseNeeds(selected: readonly PrunableModule[], { allocation, grouping }: ResolvedOptions): DenseNeeds {
  const measure = ruleMeasure(allocation);
  return {
    blockChange: measure === 'blockChange',
    sensitivity: measure === 'sensitivity',
    grouping,
    modules: selected.filter(({ kind }) => kind === 'ffn'),
  };
}

/** How often the tokens go through the model, roughly, for the remaining time. */
function countPasses(needs: DenseNeeds, { adapter, allocation }: ResolvedOptions): number {
  const backwards = needs.grouping !== undefined || needs.sensitivity ? 1 : 0;
  const forwards = backwards > 0 || needs.blockChange ? 1 : 0;
  const scoring = allocation === 'standardised' || allocation === 'owl' ? 1.5 : 0;
  return forwards + backwards + scoring + (adapter.needs === 'none' ? 0 : 1.5);
}

interface Shrinking {
  readonly module: PrunableModule;
  readonly scored: ScoredModule;
  readonly stepCount: number;
  readonly meter: ErrorMeter;
}

/** Takes units out of one module and makes up for them. */
async function shrink(
  { job, timed, remarks }: Run,
  model: OnnxModel,
  { module, scored, stepCount, meter }: Shrinking,
): Promise<ModuleOutcome> {
  const { detected, facts } = job.analysed;
  const { keep, weight, bias, parts, overflow } = await timed('repair', () => scored.remove(stepCount));
  if (overflow > 0) remarks.push(`block ${module.block} ${module.kind}: ${overflow} units could not be removed`);
  const error = await timed('output error', () => meter.measure(parts));
  removeUnits(model, { detected, facts, module: module.index, keep });
  if (weight) await writeLinearWeight(model, module.output, { values: weight, store: job.store });
  if (bias) await addLinearBias(model, module.output, bias);
  return { module, keep, bias, error, numerics: parts.map(({ repaired }) => repaired.numerics) };
}

function selectModules({ analysed, options }: PruneJob): PrunableModule[] {
  const { modules, unrecognised, blockCount } = analysed.detected.layout;
  const selected = modules.filter(({ kind, unitCount }) => options.modules.has(kind) && unitCount > 1);
  const stray = [...options.skipBlocks, ...options.blockSparsity.keys()].find((block) => block >= blockCount);
  if (stray !== undefined)
    throw new OptionError(`block ${stray} does not exist; the model has blocks 0..${blockCount - 1}`);
  const missing = [...options.modules].filter((kind) => !modules.some((module) => module.kind === kind));
  const unknown = unrecognised.filter(({ kind }) => kind === 'unknown' || options.modules.has(kind));
  if (unknown.length > 0 || (missing.length > 0 && modules.length === 0)) {
    const [first] = unknown;
    const found = first
      ? `block ${first.block} ${first.kind}: ${first.node}: ${first.reason} (nearest: ${first.nearest})`
      : 'no module found';
    throw new UnsupportedModelError(
      `${unknown.length} modules that were asked for cannot be pruned; ${found}. Choose other modules, or see "describe" for all of them`,
    );
  }
  return selected;
}
