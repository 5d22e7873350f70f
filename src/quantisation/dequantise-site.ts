import type { NodeProto } from 'onnx-buf';
import type { GraphIndex } from '../onnx/graph-index.js';
import type { OnnxModel } from '../onnx/onnx-model.js';

/** A model whose codes are being replaced by floats, and the replacements so far. */
export interface Site {
  readonly model: OnnxModel;
  readonly index: GraphIndex;
  readonly replaced: Map<NodeProto, readonly NodeProto[]>;
  /** Float tables by the initializer of their codes. */
  readonly tables: Map<string, string>;
}

/** A node's name without the suffixes that quantisers add. */
export const plainName = ({ name }: NodeProto): string => name.replace(/_(Q\d+|quant|Bnb4)$/i, '');

/** A name for dequantised floats: that of the original weight, as far as the codes' name has it. */
export function floatsName({ weights }: OnnxModel, codes: string): string {
  const base = codes.replace(/_(Q\d+|quantized|quant|Bnb4)$/i, '');
  let name = base;
  for (let count = 2; weights.has(name); count += 1) name = `${base}_${count}`;
  return name;
}
