import { createErrorMeter, type ErrorMeter } from '../activations/measure-output-error.js';
import type { PrunableModule } from '../architecture/layout.js';
import type { ChannelStatistics } from '../compensation/adapter.js';
import { inputsOf } from '../graph/graph-index.js';
import { copyModel } from '../onnx/edit-weights.js';
import type { OnnxModel, TensorHandle } from '../onnx/onnx-model.js';
import type { ResolvedOptions } from '../options.js';
import { changedWeights, type ModelChange } from '../removal/apply-change.js';
import { joinBridges } from '../removal/join-bridges.js';
import { planModuleRemoval } from '../removal/plan-module-removal.js';
import { removeUnits } from '../removal/remove-units.js';
import { addLinearBias, sumLinearBias, writeLinearWeight } from '../removal/repair-linear.js';
import { channelsOf, type RemovalPlan, type ScoredModule } from '../removal/score-module.js';
import { tidyModel } from '../removal/tidy-model.js';
import type { BlockRunner } from '../runtime/block-runner.js';
import type { StepCounts } from './budget/allocate-modules.js';
import type { ModuleOutcome } from './job.js';
import type { MeasuredModel } from './measure-dense/measure-dense.js';
import { type PruneContext, segmentName } from './prune-context.js';
import type { Refinement, SegmentRefinement } from './refine/refinement.js';
import { measureModules } from './shrink/measure-modules.js';
import { scoreSegment } from './shrink/score-segment.js';

/** What the blocks shrink by. */
export interface Shrinking extends Pick<MeasuredModel, 'modules' | 'dense' | 'curvatures' | 'read'> {
  /** Steps that each module loses. */
  readonly counts: StepCounts;
  readonly refinements: readonly Refinement[];
}

/** The model when its blocks have shrunk. */
export interface Shrunk extends ModelChange {
  readonly model: OnnxModel;
  readonly modules: readonly ModuleOutcome[];
}

/**
 * Shrinks a copy of the model block by block, each measured on what the pruned blocks before it produce, unless statistics
 * are at hand: score the units, choose those that leave, narrow the graph, repair the output map, refine, and move the hidden
 * states on through what is left.
 */
export async function shrinkBlocks(context: PruneContext, given: Shrinking): Promise<Shrunk> {
  const { job } = context;
  const { counts, refinements } = given;
  const shrinking = given.modules.filter(({ index }) => (counts.get(index) ?? 0) > 0);
  const last = Math.max(0, ...shrinking.map(({ segment }) => segment));
  const model = copyModel(job.model);
  const outcomes: ModuleOutcome[] = [];
  const changed = new Map<string, TensorHandle>();
  const bridges: string[] = [];
  const meter = await createErrorMeter(job.engine);
  const readsNothing = job.options.adapter.needs === 'none' || shrinking.length === 0 || given.read !== undefined;
  const runner = readsNothing ? undefined : await context.startRunner(model);
  if (runner === undefined) context.remarks.push(...leftOut(refinements, job.options));
  try {
    for (const { index } of job.analysed.detected.layout.segments.filter((segment) => segment.index <= last)) {
      await (runner && context.pass(runner));
      const modules = shrinking.filter(({ segment }) => segment === index);
      const followers = runner ? refinements.flatMap(({ follow }) => follow?.(context, model, modules) ?? []) : [];
      const statistics = await measureSegment(context, { ...given, runner, modules, followers });
      const scored = await scoreSegment(context, { ...given, model, modules, statistics });
      for (const [at, module] of modules.entries()) {
        job.options.signal?.throwIfAborted();
        const leaving = { module, scored: scored[at]!, stepCount: counts.get(module.index)!, meter };
        const outcome = await shrinkModule(context, model, leaving, { changed, bridges });
        outcomes.push(await refineModule(outcome, followers, changed));
        runner?.narrowHeld(module.output.input, channelsLeft(model, outcome));
      }
      for (const follower of followers) follower.dispose();
    }
  } finally {
    await Promise.all([runner?.dispose(), meter.release()]);
  }
  for (const { run } of refinements) {
    const refined = await run?.(context, model, { modules: outcomes, changed });
    for (const [name, value] of refined ?? []) changed.set(name, value);
  }
  joinBridges(model, bridges);
  tidyModel(model);
  return { model, modules: outcomes, changed: changedWeights(model, changed) };
}

/** Refinements that the options ask for, but that see nothing to learn from. */
const leftOut = (refinements: readonly Refinement[], options: ResolvedOptions): string[] =>
  refinements
    .filter(({ follow, passes }) => follow !== undefined && passes(options) > 0)
    .map(({ name }) => `${name} was left out: no token was looked at on the way`);

interface SegmentMeasuring extends Shrinking {
  /** Stands at the segment; absent where no token is looked at. */
  readonly runner: BlockRunner | undefined;
  readonly modules: readonly PrunableModule[];
  readonly followers: readonly SegmentRefinement[];
}

/** Statistics of a segment's modules, one entry a group: measured now, or read from where they were kept. */
async function measureSegment(
  context: PruneContext,
  { runner, modules, followers, read, dense: { functional } }: SegmentMeasuring,
): Promise<readonly (readonly ChannelStatistics[])[]> {
  const [first] = modules;
  const { needs } = context.job.options.adapter;
  if (read !== undefined) {
    if (first !== undefined) context.tick(segmentName(first.segment, context.job.analysed.detected.layout.modules));
    return context.timed('read', () => Promise.all(modules.map(read)));
  }
  if (runner === undefined || needs === 'none') return [];
  const beside = followers.flatMap(({ reads }) => reads.beside ?? []);
  const held = followers.find(({ reads }) => reads.held !== undefined)?.reads.held;
  return measureModules(context, { runner, modules, needs, functional, beside, held });
}

/** Channels of a module that are left under their old name; none where the graph now reads another. */
function channelsLeft({ proto }: OnnxModel, { module, keep }: ModuleOutcome): Int32Array {
  const { input } = module.output;
  return proto.graph?.node.some((node) => inputsOf(node).includes(input)) ? channelsOf(module, keep) : new Int32Array();
}

interface Leaving {
  readonly module: PrunableModule;
  readonly scored: ScoredModule;
  readonly stepCount: number;
  readonly meter: ErrorMeter;
}

/** What shrinking does to the model besides taking units out. */
interface ModelEdits {
  readonly changed: Map<string, TensorHandle>;
  /** Values that stand for another where a module is gone. */
  readonly bridges: string[];
}

/** Takes units out of one module and makes up for them. */
async function shrinkModule(
  { job, timed, remarks }: PruneContext,
  model: OnnxModel,
  { module, scored, stepCount, meter }: Leaving,
  { changed, bridges }: ModelEdits,
): Promise<ModuleOutcome> {
  const { engine, analysed, store } = job;
  const { output: linear } = module;
  const plan = (count: number): Promise<RemovalPlan> => timed('repair', () => scored.remove(count));
  const remark = (text: string): unknown => remarks.push(`block ${module.block} ${module.kind}: ${text}`);
  const wanted = await plan(stepCount);
  const isWhole = wanted.keep.length === 0;
  const whole = { engine, facts: analysed.facts, linear, bias: wanted.bias };
  const removal = isWhole ? await planModuleRemoval(model, whole) : undefined;
  const isStuck = isWhole && removal === undefined;
  if (isStuck) remark('one unit stays, for its result cannot be taken out');
  const { keep, weight, bias, parts, overflow } = isStuck ? await plan(stepCount - 1) : wanted;
  for (const text of parts.flatMap(({ repaired }) => repaired.remarks ?? [])) remark(text);
  if (overflow > 0) remark(`${overflow} units could not be removed`);
  const error = await timed('output error', () => meter.measure(parts));
  const outcome = { module, keep, error, numerics: parts.map(({ repaired }) => repaired.numerics) };
  const written = [];
  if (removal !== undefined) {
    written.push(await sumLinearBias(model, linear, bias));
    bridges.push(...removal.apply());
  } else {
    removeUnits(model, { ...analysed, module: module.index, keep });
    written.push(weight && (await writeLinearWeight(model, linear, { values: weight, store })));
    written.push(bias && (await addLinearBias(model, linear, bias)));
  }
  for (const [name, value] of written.filter((entry) => entry !== undefined)) changed.set(name, value);
  return outcome;
}

/** Has the refinements that followed a module's segment work on what is left of it. */
async function refineModule(
  outcome: ModuleOutcome,
  followers: readonly SegmentRefinement[],
  changed: Map<string, TensorHandle>,
): Promise<ModuleOutcome> {
  let refined = outcome;
  for (const follower of followers) {
    const found = await follower.run(refined);
    if (found === undefined) continue;
    for (const [name, value] of found.changed) changed.set(name, value);
    const { error } = refined;
    refined = { ...refined, error: error && { ...error, after: error.after * found.remaining } };
  }
  return refined;
}
