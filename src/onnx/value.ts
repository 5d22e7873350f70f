import { UnsupportedModelError } from '../errors.js';
import { FLOAT32, FLOAT64 } from './data-types.js';
import { OPEN } from './value-facts.js';

/** A tensor of the graph being built: its name, dims (`OPEN` where they depend on data) and ONNX `TensorProto.DataType` number. */
export interface Value {
  readonly name: string;
  readonly dims: readonly number[];
  readonly dataType: number;
}

/** Precision in which the gradient of a value is computed: float64 remains, all other floats become float32. */
export function gradientType(dataType: number): number {
  return dataType === FLOAT64 ? FLOAT64 : FLOAT32;
}

/** Number of elements; 1 for a scalar, open where a dim is. */
export function elementCount(dims: readonly number[]): number {
  if (dims.includes(OPEN)) return OPEN;
  return dims.reduce((product, dim) => product * dim, 1);
}

/** Whether two dims are equal. */
export function sameDims(a: readonly number[], b: readonly number[]): boolean {
  return a.length === b.length && a.every((dim, axis) => dim === b[axis]);
}

/** Dims of two tensors broadcast together by ONNX's (NumPy's) rule. @throws UnsupportedModelError when they do not fit. */
export function broadcastDims(a: readonly number[], b: readonly number[]): number[] {
  const rank = Math.max(a.length, b.length);
  return Array.from({ length: rank }, (_, at) => {
    const left = a[at - rank + a.length] ?? 1;
    const right = b[at - rank + b.length] ?? 1;
    if (left !== right && left !== 1 && right !== 1) {
      throw new UnsupportedModelError(
        `Cannot broadcast dims [${a}] with [${b}] in a gradient; the shapes given for the forward graph do not fit it.`,
      );
    }
    return left === 1 ? right : left;
  });
}

/** Axis counted from the front: -1 is the last of `rank` axes. */
export function positiveAxis(axis: number, rank: number): number {
  return axis < 0 ? axis + rank : axis;
}
