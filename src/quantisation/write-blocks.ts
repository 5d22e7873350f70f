import { create } from '@bufbuild/protobuf';
import { type NodeProto, OperatorSetIdProtoSchema } from 'onnx-buf';
import { type AttributeValue, makeNode } from '../onnx/build.js';
import { FLOAT32 } from '../onnx/data-types.js';
import { setWeight } from '../onnx/edit-weights.js';
import type { OnnxModel, TensorHandle } from '../onnx/onnx-model.js';
import { integersHandle } from '../onnx/tensor-handle.js';
import type { CodebookName } from './codebooks.js';
import { freshName } from './dequantise-site.js';
import type { QuantisableWeight } from './find-weights.js';
import { replaceNodes } from './replace-nodes.js';
import type { StoredCodes } from './store-codes.js';

/** Domain of ONNX Runtime's contrib operators. */
const MICROSOFT = 'com.microsoft';

/** Attribute `quant_type` of `MatMulBnb4`, by codebook. */
export const QUANT_TYPES = { fp4: 0, nf4: 1 } as const satisfies Record<CodebookName, number>;

/** A weight, and the codes that replace it. */
export interface QuantisedWeight extends QuantisableWeight {
  readonly stored: StoredCodes;
  /** Accuracy level of its products, see `writeBlocks`. */
  readonly accuracyLevel?: number;
}

/**
 * Replaces float weights of a graph by codes, in place: products become `MatMulNBits`, or `MatMulBnb4` with a codebook;
 * lookups of embeddings become `GatherBlockQuantized` over the same bytes. The float weights are not read afterwards.
 * @param accuracyLevel Least precision of activations inside a product: 0 lets the runtime choose, 1 float32, 4 int8.
 * @see https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
 */
export function writeBlocks(model: OnnxModel, weights: readonly QuantisedWeight[], accuracyLevel: number): void {
  const graph = model.proto.graph!;
  importDomain(model);
  const producers = new Map(graph.node.flatMap((node) => node.output.map((value) => [value, node] as const)));
  const replaced = new Map<NodeProto, readonly NodeProto[]>();
  const casts: NodeProto[] = [];
  const replace = (result: string, by: readonly NodeProto[]): void => {
    const node = producers.get(result)!;
    replaced.set(node, [...(replaced.get(node) ?? []), ...by]);
  };
  for (const weight of weights) {
    const names = addCodes(model, weight);
    if (names.cast !== undefined) casts.push(names.cast);
    const level = weight.accuracyLevel ?? accuracyLevel;
    for (const { result } of weight.products)
      replace(result, productNodes(producers.get(result)!, weight, { ...names, accuracyLevel: level }));
    const rows = weight.lookups.length === 0 ? undefined : addRows(model, weight, names.codes);
    weight.lookups.forEach((result, at) => {
      const lookup = lookupNode(producers.get(result)!, weight, { ...names, codes: rows!.name });
      replace(result, [...(at === 0 ? rows!.nodes : []), lookup]);
    });
  }
  replaceNodes(graph, replaced);
  graph.node.unshift(...casts);
}

function importDomain({ proto }: OnnxModel): void {
  if (proto.opsetImport.some(({ domain }) => domain === MICROSOFT)) return;
  proto.opsetImport.push(create(OperatorSetIdProtoSchema, { domain: MICROSOFT, version: 1n }));
}

/** Names of the values of a weight's codes. */
interface CodeNames {
  /** Creates `scales` from an initializer in float16. */
  readonly cast?: NodeProto;
  readonly codes: string;
  readonly scales: string;
  readonly zeroPoints?: string;
  readonly groups?: string;
}

/** Adds a quantised weight's initializers, with the names that exporters give them. */
function addCodes(model: OnnxModel, { name, stored }: QuantisedWeight): CodeNames {
  const add = (suffix: string, handle: TensorHandle): string => {
    const fresh = freshName(model, `${name}_${suffix}`);
    setWeight(model, fresh, handle);
    return fresh;
  };
  const { grid, zeroPoints, groups } = stored;
  const hasCodebook = grid.codebook !== undefined;
  // `MatMulBnb4` expects one dimension.
  const flat = (handle: TensorHandle): TensorHandle =>
    hasCodebook ? { ...handle, dims: [handle.dims.reduce((product, dim) => product * dim, 1)] } : handle;
  const codes = add(hasCodebook ? 'Bnb4' : `Q${grid.bits}`, flat(stored.codes));
  const scales = add(hasCodebook ? 'absmax' : 'scales', flat(stored.scales));
  return {
    codes,
    ...(grid.castsScales ? castScales(scales) : { scales }),
    ...(zeroPoints && { zeroPoints: add('zero_points', zeroPoints) }),
    ...(groups && { groups: add('g_idx', groups) }),
  };
}

function castScales(stored: string): Required<Pick<CodeNames, 'cast' | 'scales'>> {
  const scales = `${stored}_float`;
  const attributes = { to: FLOAT32 };
  return { scales, cast: makeNode({ op: 'Cast', name: scales, inputs: [stored], outputs: [scales], attributes }) };
}

function productNodes(
  node: NodeProto,
  { stored }: QuantisedWeight,
  { codes, scales, zeroPoints = '', groups = '', accuracyLevel }: CodeNames & { readonly accuracyLevel: number },
): readonly NodeProto[] {
  const { grid, outCount, inCount } = stored;
  const [input = '', , bias = ''] = node.input;
  const [result = ''] = node.output;
  const unbiased = bias === '' ? result : `${result}/unbiased`;
  const { codebook, bits, blockSize } = grid;
  const shape: Record<string, AttributeValue> = { K: inCount, N: outCount, block_size: blockSize };
  const inputs = [input, codes, scales, zeroPoints, groups];
  while (inputs.at(-1) === '') inputs.pop();
  const common = { domain: MICROSOFT, inputs, outputs: [unbiased] };
  const product =
    codebook === undefined
      ? makeNode({
          ...common,
          op: 'MatMulNBits',
          name: node.name && `${node.name}_Q${bits}`,
          attributes: { ...shape, bits, ...(accuracyLevel > 0 && { accuracy_level: accuracyLevel }) },
        })
      : makeNode({
          ...common,
          op: 'MatMulBnb4',
          name: node.name && `${node.name}_Bnb4`,
          attributes: { ...shape, quant_type: QUANT_TYPES[codebook] },
        });
  if (bias === '') return [product];
  const name = node.name && `${node.name}_bias`;
  return [product, makeNode({ op: 'Add', name, inputs: [unbiased, bias], outputs: [result] })];
}

/** Reshapes the codes to the rows of a table, `[V, C]`. */
function addRows(model: OnnxModel, { name, stored, products }: QuantisedWeight, codes: string) {
  const { outCount, inCount, grid } = stored;
  const dims = [outCount, (inCount * grid.bits) / 8];
  if (products.length === 0) {
    setWeight(model, codes, { ...stored.codes, dims });
    return { name: codes, nodes: [] };
  }
  const shape = `${name}_rows_shape`;
  setWeight(model, shape, integersHandle(dims));
  const rows = `${name}_rows`;
  return { name: rows, nodes: [makeNode({ op: 'Reshape', name: rows, inputs: [codes, shape], outputs: [rows] })] };
}

function lookupNode(node: NodeProto, { stored }: QuantisedWeight, { codes, scales, zeroPoints }: CodeNames): NodeProto {
  const { bits, blockSize } = stored.grid;
  const inputs = [codes, node.input[1]!, scales, ...(zeroPoints === undefined ? [] : [zeroPoints])];
  return makeNode({
    op: 'GatherBlockQuantized',
    domain: MICROSOFT,
    name: node.name && `${node.name}_Q${bits}`,
    inputs,
    outputs: [...node.output],
    attributes: { gather_axis: 0, quantize_axis: 1, block_size: blockSize, bits },
  });
}
