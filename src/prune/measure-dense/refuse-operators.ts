import { dataInputs } from '../../graph/partition.js';
import { isFloatType } from '../../onnx/float-encoding.js';
import type { OnnxModel } from '../../onnx/onnx-model.js';
import { gradientOf, operatorOf } from '../../operators/table.js';
import type { AnalysedModel } from '../../runtime/analyse-model.js';
import { indexRunGraph } from '../../runtime/block-runner.js';

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
