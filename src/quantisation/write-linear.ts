import type { NodeProto } from 'onnx-buf';
import { intAttribute } from '../onnx/attributes.js';
import { makeNode } from '../onnx/build.js';
import { setWeight } from '../onnx/edit-weights.js';
import { indexGraph } from '../onnx/graph-index.js';
import type { OnnxModel } from '../onnx/onnx-model.js';
import { integersHandle } from '../onnx/tensor-handle.js';
import { elementCount } from '../onnx/value.js';
import { isTranspose, type QuantisableWeight } from './find-weights.js';
import { codeType, type LinearCodes, type NamedTensor } from './linear-codes.js';
import { replaceNodes } from './replace-nodes.js';

/** A weight, and the linear codes that replace it. */
export interface LinearCodedWeight extends QuantisableWeight {
  readonly linear: LinearCodes;
}

/** Names of the initializers of a weight's codes. */
export interface LinearNames {
  readonly codes: string;
  readonly scales: string;
  /** Empty: none. */
  readonly zeroPoints: string;
}

/** Adds a weight's initializers. */
export function addLinear(model: OnnxModel, { codes, scales, zeroPoints }: LinearCodes): LinearNames {
  return {
    codes: addNamed(model, codes),
    scales: addNamed(model, scales),
    zeroPoints: zeroPoints === undefined ? '' : addNamed(model, zeroPoints),
  };
}

/** Adds an initializer. Weights that shared one need two if they were cut differently. */
function addNamed(model: OnnxModel, { name, handle }: NamedTensor): string {
  let free = name;
  for (let count = 2; model.weights.has(free) && model.weights.get(free) !== handle; count += 1)
    free = `${name}_${count}`;
  if (!model.weights.has(free)) setWeight(model, free, handle);
  return free;
}

/**
 * Replaces float weights of a graph by codes and `DequantizeLinear`, in place. The float weights are not read afterwards.
 * Lookups and transposes of tables work on the codes of eight bits.
 */
export function writeConstants(model: OnnxModel, weights: readonly Pick<LinearCodedWeight, 'name' | 'linear'>[]): void {
  const graph = model.proto.graph!;
  const index = indexGraph(graph);
  const replaced = new Map<NodeProto, readonly NodeProto[]>();
  const constants: NodeProto[] = [];
  for (const { name, linear } of weights) {
    const names = addLinear(model, linear);
    const [lookup, transpose] = [lookupOf(linear), transposeOf(linear)];
    let isRead = index.outputs.has(name);
    for (const at of index.consumersOf.get(name) ?? []) {
      const node = index.nodes[at]!;
      const isLookup = node.opType === 'Gather' && node.input[0] === name && intAttribute(node, 'axis', 0) === 0;
      const write = isLookup ? lookup : isTranspose(node) ? transpose : undefined;
      if (write === undefined) isRead = true;
      else replaced.set(node, write(node, { model, linear, names }));
    }
    if (!isRead) continue;
    constants.push(constantNode(linear, { ...names, floats: name }));
    model.weights.delete(name);
  }
  const replacedNames = new Set(constants.flatMap(({ output }) => output));
  graph.initializer = graph.initializer.filter(({ name }) => !replacedNames.has(name));
  replaceNodes(graph, replaced);
  graph.node.unshift(...constants);
}

function constantNode(
  { scales, axis, blockSize }: Pick<LinearCodes, 'scales' | 'axis' | 'blockSize'>,
  { codes, scales: list, zeroPoints, floats }: LinearNames & { readonly floats: string },
): NodeProto {
  const isOne = elementCount(scales.handle.dims) === 1;
  return makeNode({
    op: 'DequantizeLinear',
    name: `${codes}_DequantizeLinear`,
    inputs: [codes, list, ...(zeroPoints === '' ? [] : [zeroPoints])],
    outputs: [floats],
    ...(!isOne && { attributes: { axis, ...(blockSize > 0 && { block_size: blockSize }) } }),
  });
}

/** Creates a writer of transposes that transposes codes before scaling; undefined for codes that share bytes, and for blocks. */
function transposeOf(linear: LinearCodes) {
  if (codeType(linear.codes.handle).bits < 8 || linear.blockSize > 0) return undefined;
  return (node: NodeProto, { names }: LookedUp): NodeProto[] => {
    const [result = ''] = node.output;
    const codes = `${result}/codes`;
    return [
      makeNode({ op: 'Transpose', inputs: [names.codes], outputs: [codes], attributes: { perm: [1, 0] } }),
      constantNode({ ...linear, axis: 1 - linear.axis }, { ...names, codes, floats: result }),
    ];
  };
}

/** A weight whose rows are looked up before they are scaled. */
export interface LookedUp {
  readonly model: OnnxModel;
  readonly linear: LinearCodes;
  readonly names: LinearNames;
}

/** Chooses a writer of lookups; undefined for codes that share bytes, or several scales per row. */
export function lookupOf({ codes, scales, axis, blockSize }: LinearCodes) {
  if (codeType(codes.handle).bits < 8) return undefined;
  if (elementCount(scales.handle.dims) === 1) return lookUpOneScale;
  return axis === 0 && blockSize === 0 ? lookUpScales : undefined;
}

function lookUpOneScale(node: NodeProto, { names: { codes, scales, zeroPoints } }: LookedUp): NodeProto[] {
  const [result = ''] = node.output;
  const rows = `${result}/codes`;
  return [
    makeNode({ op: 'Gather', name: quantName(node), inputs: [codes, node.input[1]!], outputs: [rows] }),
    makeNode({
      op: 'DequantizeLinear',
      inputs: [rows, scales, ...(zeroPoints === '' ? [] : [zeroPoints])],
      outputs: [result],
    }),
  ];
}

function lookUpScales(node: NodeProto, { model, linear, names }: LookedUp): NodeProto[] {
  const ids = node.input[1]!;
  const [result = ''] = node.output;
  const named = (suffix: string) => `${result}/${suffix}`;
  const { dataType } = linear.scales.handle;
  const emit = (op: string, inputs: readonly string[], output: string) => makeNode({ op, inputs, outputs: [output] });
  const cast = (from: string, to: string) =>
    makeNode({ op: 'Cast', inputs: [from], outputs: [to], attributes: { to: dataType } });
  const count = linear.zeroPoints === undefined ? 0 : elementCount(linear.zeroPoints.handle.dims);
  const column = `${names.scales}/column`;
  setWeight(model, column, integersHandle([-1, 1]));
  const rowsOf = (list: string, suffix: string) => [
    emit('Reshape', [list, column], named(`${suffix}_column`)),
    emit('Gather', [named(`${suffix}_column`), ids], named(suffix)),
  ];
  const zero =
    count > 1
      ? [...rowsOf(names.zeroPoints, 'zero_codes'), cast(named('zero_codes'), named('zero_point'))]
      : count === 1
        ? [cast(names.zeroPoints, named('zero_point'))]
        : [];
  return [
    makeNode({ op: 'Gather', name: quantName(node), inputs: [names.codes, ids], outputs: [named('codes')] }),
    ...rowsOf(names.scales, 'scales'),
    cast(named('codes'), named('floats')),
    ...zero,
    ...(count > 0 ? [emit('Sub', [named('floats'), named('zero_point')], named('levels'))] : []),
    emit('Mul', [named(count > 0 ? 'levels' : 'floats'), named('scales')], result),
  ];
}

const quantName = ({ name }: NodeProto): string => name && `${name}_quant`;
