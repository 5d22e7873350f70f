import type { NodeProto } from 'onnx-buf';
import { intAttribute } from '../onnx/attributes.js';
import { makeNode } from '../onnx/build.js';
import { setWeight } from '../onnx/edit-weights.js';
import { encodeFloats, isFloatType } from '../onnx/float-encoding.js';
import { type GraphIndex, onlyConsumer, producerNode, throughReshape } from '../onnx/graph-index.js';
import type { OnnxModel } from '../onnx/onnx-model.js';
import { computedHandle } from '../onnx/tensor-handle.js';
import { elementCount } from '../onnx/value.js';
import type { CodedHandle } from './coded-handle.js';
import { floatsName, plainName, type Site } from './dequantise-site.js';
import { isTranspose } from './find-weights.js';
import { hasCodeType, type LinearCodes, type NamedTensor, readLinearCodes } from './linear-codes.js';
import { TOKEN_SCALE } from './write-dynamic.js';

/** Replaces `DequantizeLinear` of a constant, also with a lookup of rows or a transpose in between, by a float constant. */
export function dequantiseConstant(node: NodeProto, site: Site): void {
  const { model, index, replaced, tables } = site;
  const [codes = '', scales = '', zeroPoints = ''] = node.input;
  const before = producerNode(index, codes);
  const isLookup = before?.opType === 'Gather' && intAttribute(before, 'axis', 0) === 0;
  const isTransposed = before !== undefined && isTranspose(before);
  const table = isLookup || isTransposed ? before.input[0]! : codes;
  const [axis, blockSize] = [intAttribute(node, 'axis', 1), intAttribute(node, 'block_size', 0)];
  const linear = findLinear(model, {
    codes: table,
    scales,
    zeroPoints,
    axis: isTransposed ? 1 - axis : axis,
    blockSize,
  });
  const [result = ''] = node.output;
  // After a lookup, rows cannot have different scales.
  if (linear === undefined || (isLookup && elementCount(linear.scales.handle.dims) > 1)) return;
  if (isTransposed && (blockSize > 0 || axis < 0)) return;
  const known = tables.get(table);
  const name = known ?? (isLookup || isTransposed ? floatsName(model, table) : result);
  if (known === undefined) setWeight(model, name, floatsOfCodes(linear, 'constants'));
  tables.set(table, name);
  const emit = (op: string, inputs: readonly string[], attributes = {}) =>
    makeNode({ op, name: plainName(before ?? node), inputs, outputs: [result], attributes });
  if (isLookup) replaced.set(node, [emit('Gather', [name, before.input[1]!])]);
  else if (isTransposed) replaced.set(node, [emit('Transpose', [name], { perm: [1, 0] })]);
  else replaced.set(node, known === undefined ? [] : [emit('Identity', [name])]);
}

/**
 * Replaces a product with dynamically quantised activations, and the nodes that scale its sums. Transposed codes are those
 * of a lookup table.
 */
export function dequantiseDynamic(node: NodeProto, site: Site): void {
  const { model, index, replaced, tables } = site;
  const [rounded = '', codes = '', , zeroPoints = ''] = node.input;
  const scaled = scaledSums(node, producerNode(index, rounded), index);
  if (scaled === undefined) return;
  const before = producerNode(index, codes);
  const transposed = before !== undefined && isTranspose(before);
  const table = transposed ? before.input[0]! : codes;
  const scales = scaled.factors.map((value) => throughReshape(index, value)).find((value) => model.weights.has(value));
  const linear = findLinear(model, {
    codes: table,
    scales: scales ?? '',
    zeroPoints: throughReshape(index, zeroPoints),
    axis: transposed ? 0 : 1,
    blockSize: 0,
  });
  if (linear === undefined) return;
  const name = tables.get(table) ?? floatsName(model, table);
  tables.set(table, name);
  // Also for a table that a lookup added: the product decides its form.
  setWeight(model, name, floatsOfCodes(linear, 'dynamic'));
  const [result = ''] = scaled.last.output;
  const weight = transposed ? `${name}/transposed/${result}` : name;
  replaced.set(scaled.last, [
    ...(transposed
      ? [makeNode({ op: 'Transpose', inputs: [name], outputs: [weight], attributes: { perm: [1, 0] } })]
      : []),
    makeNode({ op: 'MatMul', name: plainName(node), inputs: [scaled.input, weight], outputs: [result] }),
  ]);
}

/** The float product that an integer product implements. */
interface ScaledSums {
  /** The float activation. */
  readonly input: string;
  /** Node of the float result. */
  readonly last: NodeProto;
  /** Values that the sums are multiplied by; the weight's scales are among them. */
  readonly factors: readonly string[];
}

/** Follows integer sums to their float values: with one scale for all activations, or one per token (`writeDynamic`). */
function scaledSums(node: NodeProto, rounding: NodeProto | undefined, index: GraphIndex): ScaledSums | undefined {
  const cast = onlyConsumer(index, node.output[0]!, 'Cast');
  const scaled = cast && onlyConsumer(index, cast.output[0]!, 'Mul');
  const factor = scaled?.input.find((value) => value !== cast?.output[0]) ?? '';
  if (rounding === undefined || scaled === undefined) return undefined;
  if (rounding.opType === 'DynamicQuantizeLinear') {
    const factors = producerNode(index, factor);
    return factors?.opType === 'Mul' ? { input: rounding.input[0]!, last: scaled, factors: factors.input } : undefined;
  }
  const isPerToken = rounding.opType === 'QuantizeLinear' && rounding.input[1] === TOKEN_SCALE;
  const divided = isPerToken ? producerNode(index, rounding.input[0]!) : undefined;
  const last = onlyConsumer(index, scaled.output[0]!, 'Mul');
  if (divided?.opType !== 'Div' || !last?.input.includes(divided.input[1]!)) return undefined;
  return { input: divided.input[0]!, last, factors: [factor] };
}

/** Replaces a lookup of codes and of their scales, and the product of both, as `writeDynamic` and `writeConstants` write them. */
export function dequantiseLinearLookup(lookup: NodeProto, { model, index, replaced, tables }: Site): void {
  const [table = '', ids = ''] = lookup.input;
  const cast = onlyConsumer(index, lookup.output[0]!, 'Cast');
  const centred = cast && onlyConsumer(index, cast.output[0]!, 'Sub');
  const levels = centred ?? cast;
  const scaled = levels && onlyConsumer(index, levels.output[0]!, 'Mul');
  const handle = model.weights.get(table);
  if (scaled === undefined || intAttribute(lookup, 'axis', 0) !== 0 || !handle || !hasCodeType(handle)) return;
  const listOf = (value: string): string => {
    const rows = producerNode(index, value);
    return rows?.opType === 'Gather' && rows.input[1] === ids ? throughReshape(index, rows.input[0]!) : value;
  };
  const uncast = producerNode(index, centred?.input[1] ?? '');
  if (centred !== undefined && uncast?.opType !== 'Cast') return;
  const [scales = '', zeroPoints = ''] = [scaled.input[1]!, uncast?.input[0] ?? ''].map(listOf);
  const linear = findLinear(model, { codes: table, scales, zeroPoints, axis: 0, blockSize: 0 });
  if (linear === undefined) return;
  const name = tables.get(table) ?? floatsName(model, table);
  if (!tables.has(table)) setWeight(model, name, floatsOfCodes(linear, 'constants'));
  tables.set(table, name);
  const inputs = [name, ids];
  replaced.set(scaled, [makeNode({ op: 'Gather', name: plainName(lookup), inputs, outputs: [...scaled.output] })]);
}

/** Names of the initializers of linear codes, and the layout of their scales. */
interface LinearPlace extends Pick<LinearCodes, 'axis' | 'blockSize'> {
  readonly codes: string;
  readonly scales: string;
  /** Empty: none. */
  readonly zeroPoints: string;
}

function findLinear(
  { weights }: OnnxModel,
  { codes, scales, zeroPoints, axis, blockSize }: LinearPlace,
): LinearCodes | undefined {
  const named = (name: string): NamedTensor | undefined => {
    const handle = weights.get(name);
    return handle && { name, handle };
  };
  const [found, scale, zero] = [named(codes), named(scales), named(zeroPoints)];
  if (found === undefined || scale === undefined || (zeroPoints !== '' && zero === undefined)) return undefined;
  if (isFloatType(found.handle.dataType) || !isFloatType(scale.handle.dataType)) return undefined;
  const fromFront = axis < 0 ? axis + found.handle.dims.length : axis;
  const flattened = ({ name, handle }: NamedTensor): NamedTensor =>
    blockSize > 0 || handle.dims.length < 2
      ? { name, handle }
      : { name, handle: { ...handle, dims: [elementCount(handle.dims)] } };
  return { codes: found, scales: flattened(scale), zeroPoints: zero && flattened(zero), axis: fromFront, blockSize };
}

/** A float weight that is dequantised from linear codes on each read. */
function floatsOfCodes(linear: LinearCodes, form: 'constants' | 'dynamic'): CodedHandle {
  const { dims } = linear.codes.handle;
  const { dataType } = linear.scales.handle;
  const handle = computedHandle({ dataType, dims }, async () => encodeFloats(dataType, await readLinearCodes(linear)));
  return { ...handle, coded: { codes: { form, linear } } };
}
