import type { SharedKeyValues } from '../architecture/find-shared-key-values.js';
import type { PrunableModule } from '../architecture/layout.js';
import type { OnnxModel } from '../onnx/onnx-model.js';
import type { AnalysedModel } from '../runtime/analyse-model.js';
import { editGraph } from './graph-editor.js';
import { type RemainingUnits, remainingPositions, remainingUnits } from './remaining-positions.js';
import { cutTrace, prunedName } from './remove-units.js';

/** Units of a cut module that remain. */
interface Cut {
  readonly module: Pick<PrunableModule, 'index'>;
  readonly keep: Int32Array;
}

/**
 * Removes heads from keys and values that several blocks share, in place, once all their readers have lost the same heads;
 * until then, each reader gathers its own. If readers have different heads, or one is unpruned, nothing changes.
 *
 * @param cuts Pruned modules.
 */
export function narrowKeyValues(
  model: OnnxModel,
  { detected, facts }: Pick<AnalysedModel, 'detected' | 'facts'>,
  cuts: readonly Cut[],
): void {
  for (const shared of detected.sharedKeyValues) {
    const remaining = commonUnits(shared, { detected, facts }, cuts);
    if (remaining === undefined) continue;
    for (const value of shared.values) readUncut(model, value, shared.members);
    cutTrace(model, { detected, facts, trace: shared.trace, remaining, module: shared.members[0]! });
  }
}

/** Units that remain of the module that computes the keys and values, if all others read the same ones. */
function commonUnits(
  { members, trace, values }: SharedKeyValues,
  { detected, facts }: Pick<AnalysedModel, 'detected' | 'facts'>,
  cuts: readonly Cut[],
): RemainingUnits | undefined {
  const keepOf = new Map(cuts.map(({ module, keep }) => [module.index, keep]));
  const [producer] = members.map((index) => keepOf.get(index));
  if (producer === undefined || !members.every((index) => keepOf.has(index))) return undefined;
  const remaining = remainingUnits(producer, trace.groupOfUnit);
  const isCommon = values.every((value) => {
    const sharedLabel = trace.labels.get(value);
    const [first, second] = [facts.first.get(value), facts.second.get(value)].map(
      (fact) => fact?.dims[sharedLabel?.axis ?? 0],
    );
    return members.every((index) => {
      const own = detected.traces[index]!;
      const label = own.labels.get(value);
      if (first !== second) return false;
      const positions = label && remainingPositions(label, remainingUnits(keepOf.get(index)!, own.groupOfUnit)).join();
      const isEqual = sharedLabel && positions === remainingPositions(sharedLabel, remaining).join();
      return positions === undefined || isEqual;
    });
  });
  return isCommon ? remaining : undefined;
}

/** Makes modules read a value itself instead of the heads that were gathered for each. */
function readUncut(model: OnnxModel, value: string, members: readonly number[]): void {
  const editor = editGraph(model);
  const gathers = editor.consumersOf(value).filter(({ opType, output: [result = ''] }) => {
    return opType === 'Gather' && members.some((index) => result.startsWith(prunedName(value, index)));
  });
  for (const { output } of gathers) editor.rewire(editor.consumersOf(output[0]!), output[0]!, value);
  const graph = model.proto.graph!;
  graph.node.splice(0, graph.node.length, ...graph.node.filter((node) => !gathers.includes(node)));
}
