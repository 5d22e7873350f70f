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

/** Name for dequantised floats: the codes' name without the suffix of quantisers. */
export const floatsName = (model: OnnxModel, codes: string): string =>
  freshName(model, codes.replace(/_(Q\d+|quantized|quant|Bnb4)$/i, ''));

/** A name that no weight has. */
export function freshName({ weights }: OnnxModel, base: string): string {
  let name = base;
  for (let count = 2; weights.has(name); count += 1) name = `${base}_${count}`;
  return name;
}
