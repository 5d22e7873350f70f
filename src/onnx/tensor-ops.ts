import { UnsupportedModelError } from '../errors.js';
import { BOOL, FLOAT32, INT64 } from './data-types.js';
import type { NodeEmitter } from './node-emitter.js';
import { broadcastDims, elementCount, positiveAxis, sameDims, type Value } from './value.js';
import { OPEN } from './value-facts.js';

/** Options of a matrix product; the transpositions concern the last two axes. */
export interface MatMulOptions {
  readonly transA?: boolean;
  readonly transB?: boolean;
  /** Factor of the product. Default 1. */
  readonly alpha?: number;
}

/** Operations in which gradient rules are written: each appends a node and infers the dims of its output. */
export type TensorOps = ReturnType<typeof createTensorOps>;

type Operand = Value | number;

/** Most negative finite float32: the value of additive masks where attention is forbidden. */
export const MIN_FLOAT32 = -3.4028234663852886e38;

/**
 * Creates the operations over an emitter. `opset` is the version of ONNX's own operators in the graph (at least 11):
 * reductions moved their axes from attribute to input at 13 and 18.
 */
export function createTensorOps(emitter: NodeEmitter, opset: number) {
  const ints = (values: readonly number[]): Value => emitter.constant(INT64, [values.length], values);
  const scalar = (value: number, dataType: number): Value => emitter.constant(dataType, [], [value]);
  const operand = (value: Operand, like: Operand): Value =>
    typeof value === 'number' ? scalar(value, typeof like === 'number' ? FLOAT32 : like.dataType) : value;

  const unary = (op: string) => (x: Value) => emitter.node(op, [x], x);
  const binary = (op: string, dataType?: number) => (left: Operand, right: Operand) => {
    const a = operand(left, right);
    const b = operand(right, left);
    return emitter.node(op, [a, b], { dims: broadcastDims(a.dims, b.dims), dataType: dataType ?? a.dataType });
  };
  const reduce = (op: string, inputSince: number) => (x: Value, axes: readonly number[], keepDims: boolean) => {
    const reduced = new Set(axes.map((axis) => positiveAxis(axis, x.dims.length)));
    if (reduced.size === 0) return x;
    const sorted = [...reduced].sort((a, b) => a - b);
    const dims = x.dims.flatMap((dim, axis) => (reduced.has(axis) ? (keepDims ? [1] : []) : [dim]));
    const keepdims = keepDims ? 1 : 0;
    return opset >= inputSince
      ? emitter.node(op, [x, ints(sorted)], { dims, dataType: x.dataType, attributes: { keepdims } })
      : emitter.node(op, [x], { dims, dataType: x.dataType, attributes: { keepdims, axes: sorted } });
  };

  const add = binary('Add');
  const mul = binary('Mul');
  const greater = binary('Greater', BOOL);

  // ONNX infers one size, given as -1, the value of OPEN.
  const reshape = (x: Value, dims: readonly number[]): Value => {
    if (sameDims(x.dims, dims)) return x;
    if (dims.filter((dim) => dim === OPEN).length > 1) throw openSize('a reshape to', dims);
    return emitter.node('Reshape', [x, ints(dims)], { dims, dataType: x.dataType });
  };

  // Open sizes are inferred by ONNX; others are computed here.
  const regroup = (x: Value, sizes: readonly number[]): Value => {
    const left = elementCount(x.dims.filter((_, axis) => sizes[axis] !== 0));
    const given = elementCount(sizes.filter((size) => size > 0));
    const dims = sizes.map((size, axis) => {
      if (size === 0) return x.dims[axis] ?? 1;
      return size === OPEN && left !== OPEN ? left / given : size;
    });
    if (!dims.includes(OPEN)) return reshape(x, dims);
    return emitter.node('Reshape', [x, ints(sizes)], { dims, dataType: x.dataType });
  };

  // The last size is inferred by ONNX, so that graphs that differ only in widths are equal.
  const mergeRows = (x: Value): Value => {
    const dims = [elementCount(x.dims.slice(0, -1)), x.dims.at(-1) ?? 1];
    if (dims.includes(OPEN) || sameDims(x.dims, dims)) return reshape(x, dims);
    return emitter.node('Reshape', [x, ints([dims[0]!, OPEN])], { dims, dataType: x.dataType });
  };

  const transpose = (x: Value, perm: readonly number[]): Value =>
    perm.every((from, to) => from === to)
      ? x
      : emitter.node('Transpose', [x], {
          dims: perm.map((axis) => x.dims[axis] ?? 1),
          dataType: x.dataType,
          attributes: { perm },
        });

  const slice = (x: Value, axis: number, { start, end, step = 1 }: { start: number; end: number; step?: number }) => {
    const at = positiveAxis(axis, x.dims.length);
    const dim = x.dims[at] ?? 0;
    const isFromBack = step > 0 && end < 0;
    if (dim === OPEN && !isFromBack) throw openSize('a slice of', x.dims);
    const stop = isFromBack && dim !== OPEN ? dim + end : end;
    const length = dim === OPEN ? OPEN : Math.ceil((stop - start) / step);
    if (step === 1 && length === dim && dim !== OPEN) return x;
    return emitter.node('Slice', [x, ints([start]), ints([stop]), ints([at]), ints([step])], {
      dims: x.dims.with(at, length),
      dataType: x.dataType,
    });
  };

  const swapLast = (x: Value): Value => {
    const axes = x.dims.map((_, axis) => axis);
    return transpose(x, [...axes.slice(0, -2), axes.length - 1, axes.length - 2]);
  };

  const matMul = (a: Value, b: Value, { transA = false, transB = false, alpha = 1 }: MatMulOptions = {}): Value => {
    const [rows, columns] = [a.dims.at(transA ? -1 : -2) ?? 1, b.dims.at(transB ? -2 : -1) ?? 1];
    const dims = [...broadcastDims(a.dims.slice(0, -2), b.dims.slice(0, -2)), rows, columns];
    const plain = !transA && !transB && alpha === 1;
    if (!plain && a.dataType === FLOAT32) {
      return emitter.node('FusedMatMul', [a, b], {
        dims,
        dataType: a.dataType,
        domain: 'com.microsoft',
        attributes: { transA: transA ? 1 : 0, transB: transB ? 1 : 0, alpha: { float: alpha } },
      });
    }
    const product = emitter.node('MatMul', [transA ? swapLast(a) : a, transB ? swapLast(b) : b], {
      dims,
      dataType: a.dataType,
    });
    return alpha === 1 ? product : mul(product, alpha);
  };

  const expand = (x: Value, dims: readonly number[]): Value => {
    if (sameDims(x.dims, dims)) return x;
    const isOwn = (axis: number): boolean => x.dims[axis - dims.length + x.dims.length] === OPEN;
    if (dims.some((dim, axis) => dim === OPEN && !isOwn(axis))) throw openSize('copies that fill', dims);
    const sizes = dims.map((dim) => (dim === OPEN ? 1 : dim));
    return emitter.node('Expand', [x, ints(sizes)], { dims, dataType: x.dataType });
  };

  const shapeOf = (x: Value): Value => emitter.node('Shape', [x], { dims: [x.dims.length], dataType: INT64 });

  return {
    opset,
    emitter,
    ints,
    scalar,
    add,
    mul,
    sub: binary('Sub'),
    div: binary('Div'),
    pow: binary('Pow'),
    greater,
    less: binary('Less', BOOL),
    equal: binary('Equal', BOOL),
    neg: unary('Neg'),
    abs: unary('Abs'),
    sign: unary('Sign'),
    exp: unary('Exp'),
    log: unary('Log'),
    sqrt: unary('Sqrt'),
    sin: unary('Sin'),
    cos: unary('Cos'),
    tanh: unary('Tanh'),
    sigmoid: unary('Sigmoid'),
    softplus: unary('Softplus'),
    erf: unary('Erf'),
    floor: unary('Floor'),
    /** Reductions over `axes`; no axes leave the value as it is. */
    sum: reduce('ReduceSum', 13),
    mean: reduce('ReduceMean', 18),
    sumSquare: reduce('ReduceSumSquare', 18),
    max: reduce('ReduceMax', 18),
    /** Softmax over the last axis. */
    softmax: (x: Value) => emitter.node('Softmax', [x], { ...x, attributes: { axis: -1 } }),
    /** Cumulative sum along `axis`. */
    cumulate: (x: Value, axis: number) => emitter.node('CumSum', [x, scalar(axis, INT64)], x),
    reshape,
    /** Reshape with ONNX's special sizes: 0 keeps a dim, -1 is inferred. */
    regroup,
    /** All axes but the last as one. */
    mergeRows,
    transpose,
    /** Elements from `start` to `end` (exclusive); negative values count from the end, also on an open axis. */
    slice,
    matMul,
    expand,
    /** Broadcasts to the dims of another value, which may be open. */
    expandLike: (x: Value, like: Value): Value =>
      like.dims.includes(OPEN)
        ? emitter.node('Expand', [x, shapeOf(like)], { dims: like.dims, dataType: x.dataType })
        : expand(x, like.dims),
    /** A size as an int64 scalar. */
    sizeOf: (x: Value, axis: number): Value =>
      emitter.node('Gather', [shapeOf(x), scalar(positiveAxis(axis, x.dims.length), INT64)], {
        dims: [],
        dataType: INT64,
        attributes: { axis: 0 },
      }),
    /** Concatenates two values along an axis, which may be open. */
    append: (first: Value, second: Value, axis: number): Value => {
      const [a = 0, b = 0] = [first.dims[axis], second.dims[axis]];
      const dims = first.dims.with(axis, a === OPEN || b === OPEN ? OPEN : a + b);
      return emitter.node('Concat', [first, second], { dims, dataType: first.dataType, attributes: { axis } });
    },
    /** A tensor of zeros. */
    zeros: (dims: readonly number[], dataType: number) => expand(scalar(0, dataType), dims),
    concat: (values: readonly Value[], axis: number): Value => {
      const [first] = values;
      if (first === undefined) throw new RangeError('Nothing to concatenate.');
      if (values.length === 1) return first;
      const at = positiveAxis(axis, first.dims.length);
      if (values.some(({ dims }) => dims[at] === OPEN)) throw openSize('parts next to', first.dims);
      const length = values.reduce((sum, { dims }) => sum + (dims[at] ?? 0), 0);
      return emitter.node('Concat', values, {
        dims: first.dims.with(at, length),
        dataType: first.dataType,
        attributes: { axis: at },
      });
    },
    /** Zeros before and after along one axis. */
    pad: (x: Value, axis: number, { before, after }: { before: number; after: number }): Value => {
      if (before === 0 && after === 0) return x;
      if (x.dims[axis] === OPEN) throw openSize('a border of', x.dims);
      const zeros = x.dims.map(() => 0);
      const pads = [...zeros.with(axis, before), ...zeros.with(axis, after)];
      return emitter.node('Pad', [x, ints(pads)], {
        dims: x.dims.with(axis, (x.dims[axis] ?? 0) + before + after),
        dataType: x.dataType,
      });
    },
    where: (condition: Value, whenTrue: Operand, whenFalse: Operand): Value => {
      const a = operand(whenTrue, whenFalse);
      const b = operand(whenFalse, whenTrue);
      const dims = broadcastDims(condition.dims, broadcastDims(a.dims, b.dims));
      return emitter.node('Where', [condition, a, b], { dims, dataType: a.dataType });
    },
    cast: (x: Value, dataType: number): Value =>
      x.dataType === dataType ? x : emitter.node('Cast', [x], { dims: x.dims, dataType, attributes: { to: dataType } }),
    /** Elements of `x` along `axis` picked by int64 `indices` of x's rank. */
    gatherElements: (x: Value, indices: Value, axis: number): Value =>
      emitter.node('GatherElements', [x, indices], { dims: indices.dims, dataType: x.dataType, attributes: { axis } }),
    /** `x` with the elements along `axis` at `indices` replaced by `updates`. */
    scatterElements: (x: Value, indices: Value, { updates, axis }: { updates: Value; axis: number }): Value =>
      emitter.node('ScatterElements', [x, indices, updates], { ...x, attributes: { axis } }),
    /** Sum of all elements as a scalar. */
    total: (x: Value): Value =>
      reduce('ReduceSum', 13)(
        x,
        x.dims.map((_, axis) => axis),
        false,
      ),
    not: (x: Value): Value => emitter.node('Not', [x], x),
    /** Additive mask: the lowest float where `forbidden`, 0 elsewhere. */
    additiveMask: (forbidden: Value): Value =>
      emitter.node('Where', [forbidden, scalar(MIN_FLOAT32, FLOAT32), scalar(0, FLOAT32)], {
        dims: forbidden.dims,
        dataType: FLOAT32,
      }),
    /** Rows of numbers first, first + 1, ... as an int64 constant of the given dims. */
    range: (dims: readonly number[], first = 0): Value => {
      if (dims.includes(OPEN)) throw openSize('rows of', dims);
      return emitter.constant(
        INT64,
        dims,
        Array.from({ length: elementCount(dims) }, (_, at) => first + at),
      );
    },
  };
}

function openSize(what: string, dims: readonly number[]): UnsupportedModelError {
  return new UnsupportedModelError(`Gradients need ${what} dims [${dims}], of which -1 depends on the data`);
}
