import type { NodeProto } from 'onnx-buf';
import { dropUnusedNodes } from '../graph/drop-unused.js';
import { indexGraph, qualifiedOp } from '../graph/graph-index.js';
import { findDataType } from '../onnx/data-types.js';
import { copyModel } from '../onnx/edit-weights.js';
import type { OnnxModel } from '../onnx/onnx-model.js';
import { dequantiseLookup, dequantiseProduct, dequantiseTable } from './dequantise-blocks.js';
import { dequantiseConstant, dequantiseDynamic } from './dequantise-linear.js';
import type { Site } from './dequantise-site.js';
import type { DtypeName } from './dtypes.js';
import { replaceNodes } from './replace-nodes.js';
import { gatherLookups } from './spell-lookups.js';

/**
 * The model with float weights in place of codes, worked out whenever they are read: products over blocks (`MatMulNBits`), lookups
 * of them (`GatherBlockQuantized`, or see `spellLookups`), weights behind `DequantizeLinear`, and products whose activations are rounded as they come
 * (`DynamicQuantizeLinear`, `MatMulInteger`). What is of another form stays as it is.
 *
 * @returns the model given where it holds no codes.
 * @throws ModelFormatError where codes contradict the attributes beside them.
 */
export function dequantiseGraph(given: OnnxModel): OnnxModel {
  if (!given.proto.graph!.node.some((node) => RULES[qualifiedOp(node)] !== undefined)) return given;
  const { twin } = given;
  const model = copyModel(given);
  gatherLookups(model);
  const index = indexGraph(model.proto.graph!);
  const replaced = new Map<NodeProto, readonly NodeProto[]>();
  const site: Site = { model, index, replaced, tables: new Map() };
  // Lookups first: products over the same codes read their table.
  for (const op of Object.keys(RULES))
    for (const node of index.nodes) if (qualifiedOp(node) === op) RULES[op]!(node, site);
  replaceNodes(model.proto.graph!, replaced);
  dropUnused(model);
  return { ...model, coded: given, ...(twin && { twin: { ...twin, model: dequantiseGraph(twin.model) } }) };
}

function dropUnused({ proto, weights }: OnnxModel): void {
  const graph = proto.graph!;
  const alive = dropUnusedNodes(graph);
  graph.initializer = graph.initializer.filter(({ name }) => alive.has(name));
  for (const name of weights.keys()) if (!alive.has(name)) weights.delete(name);
  graph.valueInfo = [];
}

/** The dtype nearest to the form of a model's codes: `blocks` can be written as they are, other forms as that dtype. */
export function formOfCodes({ proto, weights }: OnnxModel): 'blocks' | DtypeName {
  const nodes = proto.graph!.node;
  const has = (...ops: string[]): boolean => nodes.some(({ opType }) => ops.includes(opType));
  if (has('MatMulNBits', 'MatMulBnb4', 'GatherBlockQuantized')) return 'blocks';
  if (has('MatMulInteger')) return 'uint8';
  const codes = nodes
    .filter(({ opType }) => opType === 'DequantizeLinear')
    .map(({ input }) => weights.get(input[0] ?? ''));
  return codes.some((handle) => handle !== undefined && (findDataType(handle.dataType)?.bits ?? 8) < 8) ? 'q4' : 'q8';
}

const RULES: Readonly<Record<string, (node: NodeProto, site: Site) => void>> = {
  'com.microsoft.GatherBlockQuantized': dequantiseLookup,
  'com.microsoft.MatMulNBits': dequantiseProduct,
  'com.microsoft.MatMulBnb4': dequantiseTable,
  DequantizeLinear: dequantiseConstant,
  MatMulInteger: dequantiseDynamic,
};
