import type { PrunableModule } from '../../architecture/layout.js';
import { UnsupportedModelError } from '../../errors.js';
import { dataInputs } from '../../graph/partition.js';
import { isFloatType } from '../../onnx/float-encoding.js';
import type { OnnxModel } from '../../onnx/onnx-model.js';
import { gradientOf, operatorOf } from '../../operators/table.js';
import type { AnalysedModel } from '../../runtime/analyse-model.js';
import { indexRunGraph } from '../../runtime/block-runner.js';

/**
 * Refuses, before any token runs, a model whose loss cannot be followed back to the modules.
 * @throws UnsupportedModelError naming the node, or the logits, in the way.
 */
export function refuseBackwards(
  model: OnnxModel,
  analysed: AnalysedModel,
  modules: readonly Pick<PrunableModule, 'segment'>[],
): void {
  const { detected, facts, tokenInput } = analysed;
  const { layout } = detected;
  const [tokens, logits] = [tokenInput, layout.logits].map((name) => facts.first.get(name)?.dims ?? []);
  if (tokens?.[1] !== logits?.[1]) {
    throw new UnsupportedModelError(
      `"${layout.logits}" has dims [${logits}] for tokens [${tokens}], expected logits of every token: the loss is not known without them`,
    );
  }
  const [first] = modules.map(({ segment }) => segment).sort((a, b) => a - b);
  refuseOperators(model, analysed, first ?? 1);
}

/** @throws UnsupportedModelError naming the first node without a gradient from a segment on. */
export function refuseOperators(model: OnnxModel, { detected, facts }: AnalysedModel, segment: number): void {
  const influenced = new Set(detected.partition.cuts.slice(segment - 1));
  for (const node of indexRunGraph(model).nodes) {
    if (operatorOf(node)?.gradient === 'zero' || !dataInputs(node).some((value) => influenced.has(value))) continue;
    const floats = node.output.filter((value) => isFloatType(facts.first.get(value)?.dataType ?? 0));
    if (floats.length > 0) gradientOf(node);
    for (const value of floats) influenced.add(value);
  }
}
