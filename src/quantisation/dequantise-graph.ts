import type { NodeProto } from 'onnx-buf';
import { dropUnusedNodes } from '../onnx/drop-unused.js';
import { copyModel } from '../onnx/edit-weights.js';
import { indexGraph, qualifiedOp } from '../onnx/graph-index.js';
import type { OnnxModel } from '../onnx/onnx-model.js';
import { dequantiseCodebook, dequantiseLookup, dequantiseProduct } from './dequantise-blocks.js';
import { dequantiseConstant, dequantiseDynamic, dequantiseLinearLookup } from './dequantise-linear.js';
import type { Site } from './dequantise-site.js';
import { fuseGathers } from './expand-gathers.js';
import { hasCodeType } from './linear-codes.js';
import { replaceNodes } from './replace-nodes.js';

/**
 * Replaces codes of a model by float weights that are dequantised on each read: products (`MatMulNBits`) and lookups
 * (`GatherBlockQuantized`, or see `expandGathers`) in blocks, weights read by `DequantizeLinear`, and products with
 * dynamically quantised activations (`DynamicQuantizeLinear`, `MatMulInteger`). Other forms are unchanged.
 *
 * @returns `given` if it has no codes.
 * @throws ModelFormatError for codes that contradict the attributes of their node.
 */
export function dequantiseGraph(given: OnnxModel): OnnxModel {
  if (![...given.weights.values()].some(hasCodeType)) return given;
  const { noPastBranch } = given;
  const model = copyModel(given);
  fuseGathers(model);
  const index = indexGraph(model.proto.graph!);
  const replaced = new Map<NodeProto, readonly NodeProto[]>();
  const site: Site = { model, index, replaced, tables: new Map() };
  // Lookups first: products over the same codes read their table.
  for (const op of Object.keys(RULES))
    for (const node of index.nodes) if (qualifiedOp(node) === op) RULES[op]!(node, site);
  if (replaced.size === 0) return given;
  replaceNodes(model.proto.graph!, replaced);
  dropUnused(model);
  return {
    ...model,
    coded: given,
    ...(noPastBranch && { noPastBranch: { ...noPastBranch, model: dequantiseGraph(noPastBranch.model) } }),
  };
}

function dropUnused({ proto, weights }: OnnxModel): void {
  const graph = proto.graph!;
  const alive = dropUnusedNodes(graph);
  graph.initializer = graph.initializer.filter(({ name }) => alive.has(name));
  for (const name of weights.keys()) if (!alive.has(name)) weights.delete(name);
  graph.valueInfo = graph.valueInfo.filter(({ name }) => alive.has(name) && !weights.has(name));
}

const RULES: Readonly<Record<string, (node: NodeProto, site: Site) => void>> = {
  'com.microsoft.GatherBlockQuantized': dequantiseLookup,
  'com.microsoft.MatMulNBits': dequantiseProduct,
  'com.microsoft.MatMulBnb4': dequantiseCodebook,
  Gather: dequantiseLinearLookup,
  DequantizeLinear: dequantiseConstant,
  MatMulInteger: dequantiseDynamic,
};
