import type { NodeProto } from 'onnx-buf';
import { intAttribute } from '../graph/attributes.js';
import { makeNode } from '../graph/build.js';
import { type GraphIndex, makerOf, onlyReader, throughReshape } from '../graph/graph-index.js';
import { setWeight } from '../onnx/edit-weights.js';
import { encodeFloats, readFloat32 } from '../onnx/float-encoding.js';
import type { TensorHandle } from '../onnx/onnx-model.js';
import { workedOutHandle } from '../onnx/tensor-handle.js';
import { plainName, type Site } from './dequantise-site.js';
import { readLinearCodes } from './linear-codes.js';
import { TOKEN_SCALE } from './write-dynamic.js';

/** A constant behind DequantizeLinear is a float constant, and so is a table whose rows are looked up before. */
export function dequantiseConstant(node: NodeProto, { model, index, replaced, tables }: Site): void {
  const [codes = '', scales = '', zeroPoints = ''] = node.input;
  const lookup = makerOf(index, codes);
  const isLookup = lookup?.opType === 'Gather' && intAttribute(lookup, 'axis', 0) === 0;
  const table = isLookup ? lookup.input[0]! : codes;
  const [found, scale] = [model.weights.get(table), model.weights.get(scales)];
  const zero = model.weights.get(zeroPoints);
  const [result = ''] = node.output;
  if (found === undefined || scale === undefined || (zeroPoints !== '' && zero === undefined)) return;
  // Rows that were looked up have no scale of their own here.
  if (model.weights.has(result) || (isLookup && scale.dims.some((dim) => dim > 1))) return;
  const layout = { axis: intAttribute(node, 'axis', 1), blockSize: intAttribute(node, 'block_size', 0) };
  const name = isLookup ? (tables.get(table) ?? `${table}/floats`) : result;
  setWeight(model, name, floatsBehind(found, { name: table, scale, zero, ...layout }));
  if (!isLookup) return void replaced.set(node, []);
  tables.set(table, name);
  const inputs = [name, lookup.input[1]!];
  replaced.set(node, [makeNode({ op: 'Gather', name: plainName(lookup), inputs, outputs: [result] })]);
}

/**
 * A product whose activations are rounded as they come, with the nodes that scale its sums. Codes that are turned for it are a
 * table, whose rows are looked up too.
 */
export function dequantiseDynamic(node: NodeProto, site: Site): void {
  const { model, index, replaced } = site;
  const [rounded = '', codes = '', , zeroPoints = ''] = node.input;
  const scaled = scaledSums(node, makerOf(index, rounded), index);
  if (scaled === undefined) return;
  const turned = makerOf(index, codes)?.opType === 'Transpose';
  const table = turned ? makerOf(index, codes)!.input[0]! : codes;
  const scales = scaled.factors.map((value) => throughReshape(index, value));
  const scale = model.weights.get(scales.find((value) => model.weights.has(value)) ?? '');
  const [found, zero] = [model.weights.get(table), model.weights.get(zeroPoints)];
  if (found === undefined || scale === undefined || (zeroPoints !== '' && zero === undefined)) return;
  const name = `${table}/floats`;
  const layout = { name: table, scale, zero, axis: turned ? 0 : 1, blockSize: 0 };
  if (!model.weights.has(name)) {
    setWeight(model, name, floatsBehind(found, layout));
    if (turned) dequantiseRows(table, name, site);
  }
  const [result = ''] = scaled.last.output;
  const weight = turned ? `${name}/turned/${result}` : name;
  replaced.set(scaled.last, [
    ...(turned ? [makeNode({ op: 'Transpose', inputs: [name], outputs: [weight], attributes: { perm: [1, 0] } })] : []),
    makeNode({ op: 'MatMul', name: plainName(node), inputs: [scaled.input, weight], outputs: [result] }),
  ]);
}

/** What a product of whole numbers stands for. */
interface ScaledSums {
  /** The float activation. */
  readonly input: string;
  /** What makes the float result. */
  readonly last: NodeProto;
  /** Values that the sums are multiplied by; the weight's scales are among them. */
  readonly factors: readonly string[];
}

/** Follows sums to the floats that they stand for: with one step for all activations, or with one for every token (`writeDynamic`). */
function scaledSums(node: NodeProto, rounding: NodeProto | undefined, index: GraphIndex): ScaledSums | undefined {
  const cast = onlyReader(index, node.output[0]!, 'Cast');
  const scaled = cast && onlyReader(index, cast.output[0]!, 'Mul');
  const factor = scaled?.input.find((value) => value !== cast?.output[0]) ?? '';
  if (rounding === undefined || scaled === undefined) return undefined;
  if (rounding.opType === 'DynamicQuantizeLinear') {
    const factors = makerOf(index, factor);
    return factors?.opType === 'Mul' ? { input: rounding.input[0]!, last: scaled, factors: factors.input } : undefined;
  }
  const isOwn = rounding.opType === 'QuantizeLinear' && rounding.input[1] === TOKEN_SCALE;
  const parted = isOwn ? makerOf(index, rounding.input[0]!) : undefined;
  const last = onlyReader(index, scaled.output[0]!, 'Mul');
  if (parted?.opType !== 'Div' || !last?.input.includes(parted.input[1]!)) return undefined;
  return { input: parted.input[0]!, last, factors: [factor] };
}

/** Rows of codes that are looked up, and scaled by nodes of their own. */
function dequantiseRows(table: string, name: string, { index, replaced }: Site): void {
  for (const at of index.consumersOf.get(table) ?? []) {
    const lookup = index.nodes[at]!;
    const cast = lookup.opType === 'Gather' ? onlyReader(index, lookup.output[0]!, 'Cast') : undefined;
    const centred = cast && onlyReader(index, cast.output[0]!, 'Sub');
    const scaled = centred && onlyReader(index, centred.output[0]!, 'Mul');
    if (scaled === undefined) continue;
    const inputs = [name, lookup.input[1]!];
    replaced.set(scaled, [makeNode({ op: 'Gather', name: plainName(lookup), inputs, outputs: [...scaled.output] })]);
  }
}

/** Where scales lie beside codes: one in all, one for each index of an axis, or one for so many along it. */
interface LinearLayout {
  /** The codes' initializer. */
  readonly name: string;
  readonly scale: TensorHandle;
  readonly zero: TensorHandle | undefined;
  readonly axis: number;
  readonly blockSize: number;
}

/** A float weight that is worked out of linear codes whenever it is read. */
function floatsBehind(codes: TensorHandle, { name, scale, zero, axis, blockSize }: LinearLayout): TensorHandle {
  const { dims } = codes;
  const { dataType } = scale;
  return workedOutHandle({ dataType, dims }, async () => {
    const values = await readLinearCodes(codes, {
      name: `"${name}"`,
      scales: await readFloat32(scale),
      zero,
      axis: axis < 0 ? axis + dims.length : axis,
      blockSize,
    });
    return encodeFloats(dataType, values);
  });
}
