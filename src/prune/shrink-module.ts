import type { ErrorMeter } from '../activations/measure-output-error.js';
import type { ExpertNeurons, PrunableModule } from '../architecture/layout.js';
import { counted } from '../counted.js';
import { inputsOf } from '../onnx/graph-index.js';
import type { OnnxModel, TensorHandle } from '../onnx/onnx-model.js';
import type { ModuleCut } from '../removal/apply-change.js';
import { chooseChannels } from '../removal/choose-channels.js';
import { type ModuleRemoval, planModuleRemoval } from '../removal/plan-module-removal.js';
import { removeUnits } from '../removal/remove-units.js';
import { addLinearBias, sumLinearBias, writeLinearWeight } from '../removal/repair-linear.js';
import { channelsOf, type RemovalPlan, type ScoredModule } from '../removal/score-module.js';
import type { BlockRunner } from '../runtime/block-runner.js';
import type { ModuleOutcome } from './job.js';
import type { ModuleRemovalOrder, NeuronOrder } from './measure-dense/order-units.js';
import type { MixtureLoss } from './mixture-steps.js';
import type { PruneContext } from './prune-context.js';

export interface ModuleShrinking {
  readonly module: PrunableModule;
  readonly scored: ScoredModule;
  /** Steps to remove, see `shrinkSteps`. */
  readonly stepCount: number;
  /** Runner of the segment, whose cached channels are narrowed too. */
  readonly runner?: BlockRunner | undefined;
  /** Absent: the outcome has no error. */
  readonly meter?: ErrorMeter | undefined;
}

/** Result of shrinking a module, from which `replayShrinking` repeats it. */
export interface ShrunkModule {
  readonly outcome: ModuleOutcome;
  /** `[out, kept channels]` row-major; absent: the remaining columns are unchanged. */
  readonly weight?: Float32Array | undefined;
  readonly bias?: Float64Array | undefined;
}

/** Changes of the model besides removed units, which shrinking adds to. */
export interface ModelEdits {
  readonly changed: Map<string, TensorHandle>;
  /** Outputs of Identity nodes where modules were removed, see `bypassRemoved`. */
  readonly bridges: string[];
}

/** Removes units of one module and repairs the others, in place. */
export async function shrinkModule(
  context: PruneContext,
  model: OnnxModel,
  { module, scored, stepCount, runner, meter }: ModuleShrinking,
  edits: ModelEdits,
): Promise<ShrunkModule> {
  const { timed, remarks } = context;
  const plan = (count: number): Promise<RemovalPlan> => timed('repair', () => scored.remove(count));
  const remark = (text: string): unknown => remarks.push(`block ${module.block} ${module.kind}: ${text}`);
  const wanted = await plan(stepCount);
  const isEntire = wanted.keep.length === 0;
  const removal = isEntire ? await planEntireRemoval(context, model, { module, bias: wanted.bias }) : undefined;
  const mustKeepOne = isEntire && removal === undefined;
  if (mustKeepOne) remark('one unit stays, because its result cannot be removed');
  const { keep, weight, bias, parts, overflow } = mustKeepOne ? await plan(stepCount - 1) : wanted;
  for (const text of parts.flatMap(({ repaired }) => repaired.remarks ?? [])) remark(text);
  if (overflow > 0) remark(`${counted(overflow, 'unit')} could not be removed`);
  const error = await timed('output error', async () => meter?.measure(parts));
  const numerics = parts.map(({ repaired }) => repaired.numerics);
  const shrunk = { outcome: { module, keep, error, numerics }, weight, bias };
  await removeFromModel(context, model, { ...shrunk, removal }, edits);
  runner?.narrowHeld(module.output.input, channelsLeft(model, shrunk.outcome));
  return shrunk;
}

export interface ExpertShrinking {
  readonly module: PrunableModule;
  readonly order: ModuleRemovalOrder;
  readonly loss: MixtureLoss;
}

/** Chooses the experts of a mixture that remain, and the neurons inside them. */
export function chooseExperts({ module, order: { scores, neurons: inner }, loss }: ExpertShrinking): ModuleCut {
  const { groupCount = 1, groupOfUnit, unitCount } = module;
  const groups = Array.from({ length: groupCount }, (_, group) => {
    const units = [...scores.keys()].filter((unit) => (groupOfUnit?.[unit] ?? 0) === group);
    return { units, scores: units.map((unit) => scores[unit]!) };
  });
  const { keep } = chooseChannels({ unitCount, groups, removeCount: loss.experts * groupCount });
  const neurons = inner && loss.neurons > 0 ? keepNeurons(module.neurons!, inner, { keep, ...loss }) : undefined;
  return { module, keep, ...(neurons && { neurons }) };
}

/** Removes experts from a mixture, and neurons from the remaining ones, in place. */
export async function shrinkExperts(
  context: PruneContext,
  model: OnnxModel,
  cut: ModuleCut,
  edits: ModelEdits,
): Promise<ShrunkModule> {
  const shrunk = { outcome: { ...cut, numerics: [] } };
  await removeFromModel(context, model, { ...shrunk, removal: undefined }, edits);
  return shrunk;
}

/** The most important neuron units of each remaining expert, without the `neurons` least important ones. */
function keepNeurons(
  { unitCount }: ExpertNeurons,
  { scores }: NeuronOrder,
  { keep, neurons }: Pick<ModuleOutcome, 'keep'> & Pick<MixtureLoss, 'neurons'>,
): Int32Array {
  const units = Array.from({ length: unitCount }, (_, unit) => unit);
  return Int32Array.from(
    [...keep].flatMap((expert) => {
      const own = scores.subarray(expert * unitCount, (expert + 1) * unitCount);
      const groups = [{ units, scores: own }];
      return [...chooseChannels({ unitCount, groups, removeCount: neurons }).keep];
    }),
  );
}

/** Repeats the shrinking of a module. */
export async function replayShrinking(
  context: PruneContext,
  model: OnnxModel,
  shrunk: ShrunkModule,
  edits: ModelEdits,
): Promise<void> {
  const { module, keep } = shrunk.outcome;
  const removal =
    keep.length === 0 ? await planEntireRemoval(context, model, { module, bias: shrunk.bias }) : undefined;
  await removeFromModel(context, model, { ...shrunk, removal }, edits);
}

async function removeFromModel(
  { job: { analysed, store } }: PruneContext,
  model: OnnxModel,
  { outcome, weight, bias, removal }: ShrunkModule & { readonly removal: ModuleRemoval | undefined },
  { changed, bridges }: ModelEdits,
): Promise<void> {
  const { module, keep, neurons } = outcome;
  const { output: linear } = module;
  const written = [];
  if (removal !== undefined) {
    written.push(await sumLinearBias(model, linear, bias));
    bridges.push(...removal.apply());
  } else {
    removeUnits(model, { ...analysed, module: module.index, keep, neurons });
    written.push(weight && (await writeLinearWeight(model, linear, { values: weight, store })));
    written.push(bias && (await addLinearBias(model, linear, bias)));
  }
  for (const [name, value] of written.filter((entry) => entry !== undefined)) changed.set(name, value);
}

const planEntireRemoval = (
  { job: { engine, analysed } }: PruneContext,
  model: OnnxModel,
  { module, bias }: { readonly module: PrunableModule; readonly bias: Float64Array | undefined },
): Promise<ModuleRemoval | undefined> =>
  planModuleRemoval(model, { engine, facts: analysed.facts, linear: module.output, bias });

/** Remaining channels of a module under their old name; empty if the graph now reads another value. */
function channelsLeft({ proto }: OnnxModel, { module, keep }: ModuleOutcome): Int32Array {
  const { input } = module.output;
  return proto.graph?.node.some((node) => inputsOf(node).includes(input)) ? channelsOf(module, keep) : new Int32Array();
}
