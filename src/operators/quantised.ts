import { intAttribute } from '../onnx/attributes.js';
import { FLOAT32 } from '../onnx/data-types.js';
import { elementCount, type Value } from '../onnx/value.js';
import { type Lowering, type LoweringContext, unsupported } from './gradient-rule.js';
import { type Family, type Gradient, missing, type Operator, PLAIN } from './operator.js';

/**
 * The product with the weight as floats, `W = (q - zero point) scale` block by block. Only the gradient of the input is
 * used; ONNX Runtime folds a constant unpacked weight.
 *
 * Inputs: 0 A, 1 packed W `[N, blocks, bytes]`, 2 scales `[N, blocks]`, 3 zero points, 4 g_idx, 5 bias.
 */
const unpackAndMultiply: Lowering = (c) => {
  const weight = unpackWeight(c);
  const [rows, size] = [elementCount(c.input(0).dims.slice(0, -1)), c.input(0).dims.at(-1) ?? 1];
  const product = c.o.matMul(c.o.reshape(c.input(0), [rows, size]), weight, { transB: true });
  const y = c.o.reshape(product, [...c.input(0).dims.slice(0, -1), weight.dims[0] ?? 1]);
  return [c.has(5) ? c.o.add(y, c.input(5)) : y];
};

const NO_GRADIENT = missing('unpacking its weight is not implemented yet');

const quantised = (bits: string, gradient: Gradient = NO_GRADIENT): Operator => ({
  ...PLAIN,
  axis: missing('packed weights are not cut'),
  gradient,
  refusal: `its weights are quantised to ${bits} in an unsupported form; prune the float model and quantise the result`,
});

/** Products with packed integer weights. */
export const QUANTISED = {
  'com.microsoft.MatMulNBits': quantised('a few bits', { lower: unpackAndMultiply }),
  'com.microsoft.MatMulBnb4': quantised('4 bits'),
  MatMulInteger: quantised('8 bits'),
  'com.microsoft.DynamicQuantizeMatMul': quantised('8 bits'),
  QLinearMatMul: quantised('8 bits'),
} as const satisfies Family;

/** The weight as float32 `[N, K]`. */
function unpackWeight(c: LoweringContext): Value {
  const { o, node } = c;
  const [bits, size] = [intAttribute(node, 'bits', 4), intAttribute(node, 'block_size', 32)];
  const [outCount, inCount] = [intAttribute(node, 'N', 0), intAttribute(node, 'K', 0)];
  if (c.has(4)) throw unsupported(node, 'it reorders channels by g_idx.');
  if (intAttribute(node, 'weight_prepacked', 0) !== 0)
    throw unsupported(node, 'its weight is prepacked for one device.');
  const blocks = Math.ceil(inCount / size);
  const levels = o.reshape(unpackBits(c, o.reshape(c.input(1), [outCount, blocks, (size * bits) / 8]), bits), [
    outCount,
    blocks,
    size,
  ]);
  const centred = o.sub(levels, zeroPoints(c, { outCount, blocks, bits }));
  const weight = o.mul(centred, o.reshape(c.input(2), [outCount, blocks, 1]));
  return o.slice(o.reshape(weight, [outCount, blocks * size]), 1, { start: 0, end: inCount });
}

interface PackedShape {
  readonly outCount: number;
  readonly blocks: number;
  readonly bits: number;
}

/** Zero points broadcastable to `[N, blocks, size]`: packed like the weight, one float per block, or the middle level. */
function zeroPoints(c: LoweringContext, { outCount, blocks, bits }: PackedShape): Value | number {
  if (!c.has(3)) return 2 ** (bits - 1);
  const points = c.input(3);
  const { o } = c;
  if (points.dataType === FLOAT32) return o.reshape(points, [outCount, blocks, 1]);
  const perRow = Math.ceil((blocks * bits) / 8);
  const unpacked = o.reshape(unpackBits(c, o.reshape(points, [outCount, perRow]), bits), [
    outCount,
    (perRow * 8) / bits,
  ]);
  return o.reshape(o.slice(unpacked, 1, { start: 0, end: blocks }), [outCount, blocks, 1]);
}

/** Bytes `[..., n]` as float levels `[..., n, 8 / bits]`, lowest bits first. */
export function unpackBits({ o }: LoweringContext, packed: Value, bits: number): Value {
  const base = 2 ** bits;
  let rest = o.cast(packed, FLOAT32);
  const digits: Value[] = [];
  for (let at = 0; at < 8 / bits - 1; at++) {
    const next = o.floor(o.mul(rest, 1 / base));
    digits.push(o.sub(rest, o.mul(next, base)));
    rest = next;
  }
  return o.concat(
    [...digits, rest].map((digit) => o.reshape(digit, [...digit.dims, 1])),
    packed.dims.length,
  );
}
