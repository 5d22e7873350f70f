import { createErrorMeter } from '../activations/measure-output-error.js';
import { runMeters } from '../activations/stage-meter.js';
import type { PrunableModule } from '../architecture/layout.js';
import type { ChannelStatistics } from '../compensation/adapter.js';
import { freeBytes } from '../free-bytes.js';
import { sum } from '../linalg/sum.js';
import { copyModel } from '../onnx/edit-weights.js';
import type { OnnxModel, TensorHandle } from '../onnx/onnx-model.js';
import type { ResolvedOptions } from '../options.js';
import { changedWeights, type ModelChange } from '../removal/apply-change.js';
import { bypassRemoved } from '../removal/bypass-removed.js';
import { narrowKeyValues } from '../removal/narrow-key-values.js';
import { tidyModel } from '../removal/tidy-model.js';
import type { BlockRunner } from '../runtime/block-runner.js';
import type { StepCounts } from './allocate-modules.js';
import { countDegenerate, remarkDegenerate } from './degenerate.js';
import type { ModuleOutcome } from './job.js';
import type { MeasuredModel } from './measure-dense/measure-dense.js';
import { measureModules } from './measure-modules.js';
import { mixtureLoss } from './mixture-steps.js';
import { type PruneContext, segmentName } from './prune-context.js';
import { type Refinement, type SegmentRefinement, TICKS_PER_PASS } from './refinement.js';
import { canRepair, RUNS_PER_EXPERT, solveExperts, writeSecondLinears } from './repair-experts.js';
import { packModules, type RefinedOutcome, replayModule } from './replay-module.js';
import { scoreSegment } from './score-segment.js';
import { openSegmentCheckpoint } from './segment-checkpoint.js';
import { chooseExperts, type ModelEdits, shrinkExperts, shrinkModule } from './shrink-module.js';

/** Plan for shrinking the blocks. */
export interface Shrinking extends Pick<MeasuredModel, 'modules' | 'dense' | 'curvatures' | 'read'> {
  /** Steps that each module loses. */
  readonly counts: StepCounts;
  readonly refinements: readonly Refinement[];
}

/** The model after its blocks have shrunk. */
export interface Shrunk extends ModelChange {
  readonly model: OnnxModel;
  readonly modules: readonly ModuleOutcome[];
}

/**
 * Shrinks a copy of the model block by block: measure on the results of the pruned blocks before, score the units, choose those
 * to remove, narrow the graph, repair the output projection, refine, and run the pruned block. With saved statistics, only
 * refinements and the repair of experts read tokens.
 */
export async function shrinkBlocks(context: PruneContext, given: Shrinking): Promise<Shrunk> {
  const { job } = context;
  const { counts, refinements } = given;
  const shrinking = given.modules.filter(({ index }) => (counts.get(index) ?? 0) > 0);
  const last = Math.max(0, ...shrinking.map(({ segment }) => segment));
  const model = copyModel(job.model);
  const done: Pick<RefinedOutcome, 'outcome' | 'degenerate'>[] = [];
  const changed = new Map<string, TensorHandle>();
  const bridges: string[] = [];
  const meter = await createErrorMeter(job.engine);
  const checkpoint = await openSegmentCheckpoint(context);
  const readsNothing =
    job.options.adapter.needs === 'none' ||
    shrinking.length === 0 ||
    (given.read !== undefined && !repairsFromTokens(context, shrinking, refinements));
  const runner = readsNothing || checkpoint.start > last ? undefined : await context.startRunner(model);
  if (readsNothing && shrinking.length > 0) context.remarks.push(...remarkSkippedRepairs(context, given, shrinking));
  const edits = { changed, bridges };
  const { segments } = job.analysed.detected.layout;
  context.begin('prune', last + 1, ticksOfSegments(context, { shrinking, refinements, last, readsNothing }));
  try {
    for await (const part of checkpoint.added()) done.push(await replayModule(context, model, part, edits));
    await checkpoint.restore(runner);
    for (const { index } of segments.filter((segment) => segment.index >= checkpoint.start && segment.index <= last)) {
      context.startPart(index);
      await (runner && context.pass(runner));
      const modules = shrinking.filter(({ segment, kind }) => segment === index && kind !== 'experts');
      const followers = runner ? refinements.flatMap(({ follow }) => follow?.(context, model, modules) ?? []) : [];
      const statistics = await measureSegment(context, { ...given, runner, modules, followers });
      const scored = await scoreSegment(context, { ...given, model, modules, statistics });
      const here: RefinedOutcome[] = [];
      for (const [at, module] of modules.entries()) {
        job.options.signal?.throwIfAborted();
        const own = statistics[at] ?? [];
        const degenerate = countDegenerate(own);
        const request = { module, stepCount: counts.get(module.index)!, runner, meter };
        const shrunk = await shrinkModule(context, model, { ...request, scored: scored.shift()! }, edits);
        // For a wide FFN this is a gigabyte, which refinements need.
        freeBytes(...own.flatMap(({ gram }) => gram ?? []));
        const refined = await refineModule(shrunk.outcome, followers);
        for (const [name, value] of refined.refined) changed.set(name, value);
        here.push({ shrunk, ...refined, degenerate });
      }
      for (const module of shrinking.filter(({ segment, kind }) => segment === index && kind === 'experts'))
        here.push(await cutExperts(context, model, { ...given, module, runner }, edits));
      done.push(...here);
      for (const follower of followers) follower.dispose();
      if (here.length > 0) checkpoint.add(index, packModules(here));
      await checkpoint.saveIfNeeded(index + 1, index < last ? runner : undefined);
    }
  } finally {
    await Promise.all([runner?.dispose(), meter.release()]);
  }
  context.finish();
  const outcomes = done.map(({ outcome }) => outcome);
  narrowKeyValues(model, job.analysed, outcomes);
  bypassRemoved(model, bridges);
  tidyModel(model);
  context.remarks.push(...remarkDegenerate(done.map(({ outcome, degenerate }) => ({ ...degenerate, ...outcome }))));
  for (const { run } of refinements) {
    const refined = await run?.(context, model, { modules: outcomes, changed });
    for (const [name, value] of refined ?? []) changed.set(name, value);
  }
  return { model, modules: outcomes, changed: changedWeights(model, changed) };
}

/**
 * Removes experts by the dense model's order, since pruning the blocks before reroutes few tokens. Methods with least squares
 * repair the remaining experts.
 */
async function cutExperts(
  context: PruneContext,
  model: OnnxModel,
  { module, counts, dense, runner }: Shrinking & Pick<SegmentMeasuring, 'runner'> & { readonly module: PrunableModule },
  edits: ModelEdits,
): Promise<RefinedOutcome> {
  const order = dense.orders!.get(module)!;
  const loss = mixtureLoss(module, { options: context.job.options, order, stepCount: counts.get(module.index)! });
  const cut = chooseExperts({ module, order, loss });
  const solves = runner !== undefined && context.job.options.adapter.needs === 'gram';
  const repair = solves
    ? await context.timed('repair', () => solveExperts(context, model, { ...cut, runner }))
    : undefined;
  const shrunk = await shrinkExperts(context, model, cut, edits);
  const refined = new Map<string, TensorHandle>();
  if (repair !== undefined && repair.linears.size > 0) {
    const [name, value] = await writeSecondLinears(context, model, { ...cut, linears: repair.linears });
    refined.set(name, value);
    edits.changed.set(name, value);
  }
  const outcome = { ...shrunk.outcome, error: repair?.error };
  return { shrunk, outcome, refined, degenerate: countDegenerate([]) };
}

/**
 * Ticks of progress by segment. For a segment with modules to prune, they count the segments since the last such one, its
 * measurement, its refinements, and the runs of its experts for their repair.
 */
function ticksOfSegments(
  { batches, job: { options, analysed } }: PruneContext,
  {
    shrinking,
    refinements,
    last,
    readsNothing,
  }: {
    readonly shrinking: readonly PrunableModule[];
    readonly refinements: readonly Refinement[];
    readonly last: number;
    readonly readsNothing: boolean;
  },
): number[] {
  let before = 0;
  return Array.from({ length: last + 1 }, (_, segment) => {
    const modules = shrinking.filter((module) => module.segment === segment);
    if (modules.length === 0) return 0;
    const runs = segment - before + 1;
    before = segment;
    const kinds = new Set(modules.map(({ kind }) => kind));
    const refined = sum(refinements.map(({ follow, passes }) => (follow ? passes({ ...options, modules: kinds }) : 0)));
    const repairs = !readsNothing && options.adapter.needs === 'gram';
    const mixtures = repairs ? modules.filter((module) => canRepair(analysed, module)) : [];
    const experts = sum(mixtures.map(({ unitCount }) => unitCount));
    return Math.max(1, batches.length) * (runs + TICKS_PER_PASS * refined) + RUNS_PER_EXPERT * experts;
  });
}

const followsTokens =
  (options: ResolvedOptions) =>
  ({ follow, passes }: Refinement): boolean =>
    follow !== undefined && passes(options) > 0;

const solvesExperts = (options: ResolvedOptions, shrinking: readonly PrunableModule[]): boolean =>
  options.adapter.needs === 'gram' && shrinking.some(({ kind }) => kind === 'experts');

/** Whether there are windows, and repairs that read them. */
const repairsFromTokens = (
  { batches, job: { options } }: PruneContext,
  shrinking: readonly PrunableModule[],
  refinements: readonly Refinement[],
): boolean => batches.length > 0 && (refinements.some(followsTokens(options)) || solvesExperts(options, shrinking));

/** Remarks about requested repairs that have no tokens to read. */
function remarkSkippedRepairs(
  { job: { options } }: PruneContext,
  { refinements, read }: Shrinking,
  shrinking: readonly PrunableModule[],
): string[] {
  const names = refinements.filter(followsTokens(options)).map(({ name }) => name);
  if (read === undefined) return names.map((name) => `${name} was left out: no token was read`);
  return [...names, ...(solvesExperts(options, shrinking) ? ['the repair of experts'] : [])].map(
    (name) =>
      `${name} was left out: no token was read. With calibration.windowCount, that number of windows of the statistics is read again for it`,
  );
}

interface SegmentMeasuring extends Shrinking {
  /** Positioned at the segment; absent if no token is read. */
  readonly runner: BlockRunner | undefined;
  readonly modules: readonly PrunableModule[];
  readonly followers: readonly SegmentRefinement[];
}

/** Measures the statistics of a segment's modules, one entry per group, or reads saved ones. */
async function measureSegment(
  context: PruneContext,
  { runner, modules, followers, read, dense: { functional } }: SegmentMeasuring,
): Promise<readonly (readonly ChannelStatistics[])[]> {
  const [first] = modules;
  const { needs } = context.job.options.adapter;
  const otherMeters = followers.flatMap(({ reads }) => reads.otherMeters ?? []);
  const held = followers.find(({ reads }) => reads.held !== undefined)?.reads.held;
  if (read !== undefined) {
    const tick = () => first && context.tick(segmentName(first.segment, context.job.analysed.detected.layout.modules));
    if (runner !== undefined && otherMeters.length > 0) {
      if (held !== undefined) runner.hold([held]);
      await context.timed('measure', () => runMeters(runner, otherMeters, tick));
    }
    tick();
    return context.timed('read', () => Promise.all(modules.map(read)));
  }
  if (runner === undefined || needs === 'none') return [];
  return measureModules(context, { runner, modules, needs, functional, otherMeters, held });
}

/** Runs the refinements of a module's segment on the pruned module. */
async function refineModule(
  shrunk: ModuleOutcome,
  followers: readonly SegmentRefinement[],
): Promise<Pick<RefinedOutcome, 'outcome' | 'refined'>> {
  let outcome = shrunk;
  const refined = new Map<string, TensorHandle>();
  for (const follower of followers) {
    const found = await follower.run(outcome);
    if (found === undefined) continue;
    for (const [name, value] of found.changed) refined.set(name, value);
    const { error } = outcome;
    outcome = { ...outcome, error: error && { ...error, after: error.after * found.remaining } };
  }
  return { outcome, refined };
}
