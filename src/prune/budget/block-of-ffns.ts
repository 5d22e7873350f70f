import type { ModelLayout } from '../../architecture/layout.js';
import type { OnnxModel } from '../../onnx/onnx-model.js';
import { blockOfInputs, quantisedSource } from '../../quantisation/coded-handle.js';
import { linearWeightName } from '../../removal/repair-linear.js';

/** Inputs of FFNs' output maps that share a scale, at most; 1 where none do, or no FFN is as wide. */
export function blockOfFfns(model: OnnxModel, { modules }: ModelLayout): number {
  const ffns = modules.filter(({ kind }) => kind === 'ffn');
  const blocks = ffns.map(({ output }) => {
    const { codes } = quantisedSource(model.weights.get(linearWeightName(model, output))) ?? {};
    return codes === undefined ? 1 : blockOfInputs(codes, output.inputAxis);
  });
  const largest = Math.max(1, ...blocks);
  return ffns.some(({ unitCount }) => unitCount >= largest) ? largest : 1;
}
