import type { ErrorMeter } from '../../activations/measure-output-error.js';
import type { PrunableModule } from '../../architecture/layout.js';
import { inputsOf } from '../../graph/graph-index.js';
import type { OnnxModel, TensorHandle } from '../../onnx/onnx-model.js';
import { planModuleRemoval } from '../../removal/plan-module-removal.js';
import { removeUnits } from '../../removal/remove-units.js';
import { addLinearBias, sumLinearBias, writeLinearWeight } from '../../removal/repair-linear.js';
import { channelsOf, type RemovalPlan, type ScoredModule } from '../../removal/score-module.js';
import type { BlockRunner } from '../../runtime/block-runner.js';
import type { ModuleOutcome } from '../job.js';
import type { PruneContext } from '../prune-context.js';

export interface ModuleShrinking {
  readonly module: PrunableModule;
  readonly scored: ScoredModule;
  /** Steps to remove, see `shrinkSteps`. */
  readonly stepCount: number;
  /** Goes on through what is left of the module. */
  readonly runner?: BlockRunner | undefined;
  /** Absent: the outcome has no error. */
  readonly meter?: ErrorMeter | undefined;
}

/** What shrinking does to the model besides taking units out. */
export interface ModelEdits {
  readonly changed: Map<string, TensorHandle>;
  /** Values that stand for another where a module is gone, see `joinBridges`. */
  readonly bridges: string[];
}

/** Takes units out of one module and makes up for them, in place. */
export async function shrinkModule(
  { job, timed, remarks }: PruneContext,
  model: OnnxModel,
  { module, scored, stepCount, runner, meter }: ModuleShrinking,
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
  const error = await timed('output error', async () => meter?.measure(parts));
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
  runner?.narrowHeld(module.output.input, channelsLeft(model, outcome));
  return outcome;
}

/** Channels of a module that are left under their old name; none where the graph now reads another. */
function channelsLeft({ proto }: OnnxModel, { module, keep }: ModuleOutcome): Int32Array {
  const { input } = module.output;
  return proto.graph?.node.some((node) => inputsOf(node).includes(input)) ? channelsOf(module, keep) : new Int32Array();
}
