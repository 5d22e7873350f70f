import { createErrorMeter, type ErrorMeter } from './activations/measure-output-error.js';
import type { PrunableModule } from './architecture/layout.js';
import type { ChannelStatistics } from './compensation/adapter.js';
import { inputsOf } from './graph/graph-index.js';
import { copyModel } from './onnx/edit-weights.js';
import type { OnnxModel } from './onnx/onnx-model.js';
import type { ResolvedOptions } from './options.js';
import { allocateModules } from './prune/allocate-modules.js';
import { checkBudget } from './prune/check-budget.js';
import type { DenseObservation } from './prune/dense-observation.js';
import type { ModuleOutcome, PruneJob, PruneOutcome, StageTiming } from './prune/job.js';
import { judgeSegment } from './prune/judge-segment.js';
import { measureModules } from './prune/measure-modules.js';
import { type ObservedModel, observeModel } from './prune/observe-model.js';
import { pruneInShots } from './prune/prune-in-shots.js';
import { repairInputs } from './prune/repair-inputs.js';
import { type Run, segmentName, startRun } from './prune/run.js';
import { type Examples, startExamples } from './prune/take-examples.js';
import { joinBridges } from './removal/join-bridges.js';
import { channelsOf, type ScoredModule, type Verdict } from './removal/judge-module.js';
import { planModuleRemoval } from './removal/plan-module-removal.js';
import { removeUnits } from './removal/remove-units.js';
import { addLinearBias, writeLinearWeight } from './removal/repair-linear.js';
import { tidyModel } from './removal/tidy-model.js';

/**
 * Prunes a model: the one place that knows the order of the stages.
 *
 * Look at the dense model as far as the method needs it (forwards for contexts and block change, backwards for affinity,
 * curvature and removal orders); spread the sparsity; then block by block, each measured on what the pruned blocks before
 * it produce: score the units, choose what leaves, narrow the graph, repair the output map, and move the hidden states on
 * through what is left. With several shots all of that happens several times. The model given stays as it is. Saving
 * the result raises a NumericalError where a weight that no stage read holds NaN.
 */
export async function pruneModel(job: PruneJob): Promise<PruneOutcome> {
  checkBudget(job);
  if (job.options.shots === 1) return pruneOnce(job);
  const outcome = await pruneInShots(job, pruneOnce);
  return { ...outcome, timings: joinTimings(outcome.timings) };
}

async function pruneOnce(job: PruneJob): Promise<PruneOutcome> {
  const observed = await observeModel(job);
  try {
    return await pruneObserved(observed);
  } finally {
    await observed.dispose();
  }
}

/** One of the results that are made from one look. */
export interface ObservedResult extends Partial<Pick<PruneJob, 'store'> & Pick<ResolvedOptions, 'sparsity'>> {
  /** How many came before it, for the progress. Default 0. */
  readonly index?: number | undefined;
}

/** Prunes a model that was looked at; `sparsity` may differ from the one it was looked at for. */
export async function pruneObserved(
  { job: given, modules: selected, dense, passes, curvatures, recall, timings, remarks }: ObservedModel,
  { sparsity = given.options.sparsity, store = given.store, index = 0 }: ObservedResult = {},
): Promise<PruneOutcome> {
  const job = { ...given, store, options: { ...given.options, sparsity } };
  const { options } = job;
  const { layout } = job.analysed.detected;
  const { adapter } = options;
  const { needs } = adapter;
  const run = startRun(job, { all: passes.all, before: passes.dense + index * passes.each });
  const counts = allocateModules(options, selected, dense);
  const shrinking = selected.filter(({ index }) => (counts.get(index) ?? 0) > 0);
  const lastSegment = Math.max(0, ...shrinking.map(({ segment }) => segment));
  const model = copyModel(job.model);
  const outcomes: ModuleOutcome[] = [];
  const bridges: string[] = [];
  const meter = await createErrorMeter(job.engine);
  const looksAtNone = needs === 'none' || shrinking.length === 0 || recall !== undefined;
  const runner = looksAtNone ? undefined : await run.startRunner(model);
  if (runner === undefined && options.inputSteps > 0 && shrinking.some(({ kind }) => kind === 'ffn'))
    run.remarks.push('the maps into FFNs stay as they were: no token was looked at on the way');
  try {
    if (runner !== undefined) await run.pass(runner);
    for (const segment of layout.segments.filter(({ index }) => index <= lastSegment)) {
      const modules = shrinking.filter((module) => module.segment === segment.index);
      const { functional } = dense;
      const examples = startExamples(run, model, runner === undefined ? [] : modules);
      const statistics = recall
        ? await recallModules(run, modules, recall)
        : runner && needs !== 'none'
          ? await measureModules(run, { runner, modules, needs, functional, ...examples.request })
          : [];
      const orderOf = (module: PrunableModule) => decidingOrder(options, dense, module);
      const judged = { model, modules, statistics, adapter, functional, curvatures, orderOf };
      const scored = await judgeSegment(run, judged);
      for (const [at, module] of modules.entries()) {
        options.signal?.throwIfAborted();
        const shrinking = { module, scored: scored[at]!, stepCount: counts.get(module.index)!, meter, bridges };
        const outcome = await refine(run, model, { outcome: await shrink(run, model, shrinking), examples });
        runner?.narrowHeld(module.output.input, channelsLeft(model, outcome));
        outcomes.push(outcome);
      }
      examples.dispose();
      if (runner !== undefined && segment.index < lastSegment) await run.pass(runner);
    }
  } finally {
    await Promise.all([runner?.dispose(), meter.release(), run.dispose()]);
  }
  joinBridges(model, bridges);
  tidyModel(model);
  return {
    model,
    modules: outcomes,
    dense,
    timings: joinTimings(timings, run.timings()),
    // The look and the pruning factorise the same curvature.
    remarks: [...new Set([...remarks, ...run.remarks])],
  };
}

/** Statistics of a segment's modules from where they were kept. */
async function recallModules(
  run: Run,
  modules: readonly PrunableModule[],
  recall: (module: PrunableModule) => Promise<ChannelStatistics[]>,
): Promise<ChannelStatistics[][]> {
  const [first] = modules;
  if (first !== undefined) run.tick(segmentName(first.segment, run.job.analysed.detected.layout.modules));
  return run.timed('recall', () => Promise.all(modules.map(recall)));
}

/** Where the allocation has priced the dense model's order of removal; function groups choose for themselves. */
function decidingOrder(
  { allocation }: ResolvedOptions,
  { orders, functional }: DenseObservation,
  module: PrunableModule,
): Float64Array | undefined {
  return allocation.ordersDecide && !functional.has(module) ? orders?.get(module)?.scores : undefined;
}

function joinTimings(...lists: readonly (readonly StageTiming[])[]): StageTiming[] {
  const sums = new Map<string, number>();
  for (const { stage, ms } of lists.flat()) sums.set(stage, (sums.get(stage) ?? 0) + ms);
  return [...sums].map(([stage, ms]) => ({ stage, ms }));
}

/** Channels of a module that are left under their old name; none where the graph now reads another. */
function channelsLeft({ proto }: OnnxModel, { module, keep }: ModuleOutcome): Int32Array {
  const { input } = module.output;
  return proto.graph?.node.some((node) => inputsOf(node).includes(input)) ? channelsOf(module, keep) : new Int32Array();
}

interface Shrinking {
  readonly module: PrunableModule;
  readonly scored: ScoredModule;
  readonly stepCount: number;
  readonly meter: ErrorMeter;
  /** Gets the values that stand for another where a module is gone. */
  readonly bridges: string[];
}

/** Takes units out of one module and makes up for them. */
async function shrink(
  { job, timed, remarks }: Run,
  model: OnnxModel,
  { module, scored, stepCount, meter, bridges }: Shrinking,
): Promise<ModuleOutcome> {
  const { detected, facts } = job.analysed;
  const judge = (count: number): Promise<Verdict> => timed('repair', () => scored.remove(count));
  const wanted = await judge(stepCount);
  const { engine } = job;
  const whole = { engine, facts, linear: module.output, bias: wanted.bias };
  const removal = wanted.keep.length === 0 ? await planModuleRemoval(model, whole) : undefined;
  const isStuck = wanted.keep.length === 0 && removal === undefined;
  if (isStuck) remarks.push(`block ${module.block} ${module.kind}: one unit stays, for its result cannot be taken out`);
  const { keep, weight, bias, parts, overflow } = isStuck ? await judge(stepCount - 1) : wanted;
  for (const { repaired } of parts)
    remarks.push(...(repaired.remarks ?? []).map((remark) => `block ${module.block} ${module.kind}: ${remark}`));
  if (overflow > 0) remarks.push(`block ${module.block} ${module.kind}: ${overflow} units could not be removed`);
  const error = await timed('output error', () => meter.measure(parts));
  const outcome = { module, keep, bias, error, numerics: parts.map(({ repaired }) => repaired.numerics) };
  if (removal !== undefined) {
    bridges.push(...removal.apply());
    return outcome;
  }
  removeUnits(model, { detected, facts, module: module.index, keep });
  const written = weight && (await writeLinearWeight(model, module.output, { values: weight, store: job.store }));
  if (bias) await addLinearBias(model, module.output, bias);
  return { ...outcome, weight: written };
}

interface Refining {
  readonly outcome: ModuleOutcome;
  readonly examples: Examples;
}

/** Repairs the maps into an FFN that lost neurons, where there is anything to learn from. */
async function refine(run: Run, model: OnnxModel, { outcome, examples }: Refining): Promise<ModuleOutcome> {
  const { module, keep, error } = outcome;
  const seen = examples.of(module);
  if (seen.length === 0 || keep.length === 0 || keep.length === module.unitCount) return outcome;
  const repair = await run.timed('input repair', () => repairInputs(run, model, { module, keep, examples: seen }));
  if (repair === undefined) return outcome;
  return { ...outcome, inputs: repair.weights, error: error && { ...error, after: error.after * repair.remaining } };
}
