import { findAttribute, intAttribute, intsAttribute } from '../graph/attributes.js';
import { elementCount, positiveAxis, type Value } from './value.js';
import { type Cotangent, type RuleContext, unsupported, type VjpRule, type WindowCotangent } from './vjp-rule.js';

/** Same elements in the same order: dx = g in the shape of x. */
const reshapeBack: VjpRule = (c) => [c.o.reshape(c.g, c.input(0).dims)];

/** Gradients of operators that move elements without computing: g moves back the same way. */
export const MOVEMENT_RULES = {
  Identity: ({ g }) => [g],
  /** At inference nothing is dropped. */
  Dropout: ({ g }) => [g],
  Reshape: reshapeBack,
  Flatten: reshapeBack,
  Squeeze: reshapeBack,
  Unsqueeze: reshapeBack,
  /** y = x with permuted axes: dx = g with the inverse permutation. */
  Transpose: (c) => {
    const { length } = c.input(0).dims;
    const perm = intsAttribute(c.node, 'perm') ?? Array.from({ length }, (_, at) => length - 1 - at);
    return [
      c.o.transpose(
        c.g,
        perm.map((_, axis) => perm.indexOf(axis)),
      ),
    ];
  },
  /** y = x repeated along axes of length 1: dx = the sum, left to the driver. */
  Expand: ({ g }) => [g],
  /** y = x repeated r times along each axis: dx = the sum over the copies. */
  Tile: (c) => {
    const { dims } = c.input(0);
    const repeats = c.ints(1);
    const copies = c.o.reshape(
      c.g,
      dims.flatMap((dim, axis) => [repeats[axis] ?? 1, dim]),
    );
    return [
      c.o.reshape(
        c.o.sum(
          copies,
          dims.map((_, axis) => 2 * axis),
          false,
        ),
        dims,
      ),
    ];
  },
  /** Each part's cotangent is a window of dx. */
  Split: (c) => {
    const axis = positiveAxis(intAttribute(c.node, 'axis', 0), c.input(0).dims.length);
    let start = 0;
    const windows: WindowCotangent[] = [];
    for (const [at, name] of c.node.output.entries()) {
      const window = name === '' ? undefined : c.cotangent(at);
      if (window !== undefined) windows.push({ axis, start, window });
      start += c.output(at).dims[axis] ?? 0;
    }
    return [windows];
  },
  /** y = windows of all inputs side by side: each dx is its window of g. */
  Concat: (c) => {
    const axis = positiveAxis(intAttribute(c.node, 'axis', 0), c.g.dims.length);
    let start = 0;
    return c.node.input.map((_, at) => {
      const end = start + (c.input(at).dims[axis] ?? 0);
      const part = c.wants(at) ? c.o.slice(c.g, axis, { start, end }) : undefined;
      start = end;
      return part;
    });
  },
  /** dx = zeros with g at the places that were read. */
  Slice: (c) => [unslice(c)],
  /** y = x[..., indices, ...]: every row of g is added to the row it was read from. */
  Gather: (c) => [ungather(c, intAttribute(c.node, 'axis', 0), c.input(1).dims)],
  /** The same along the first axis, for indices of one number each. */
  GatherND: (c) => {
    const { dims } = c.input(1);
    if (intAttribute(c.node, 'batch_dims', 0) !== 0 || dims.at(-1) !== 1) {
      throw unsupported(c.node, 'it gathers by more than one index each.');
    }
    return [ungather(c, 0, dims.slice(0, -1))];
  },
  /** y = the k largest elements along an axis and where they were: dx = g there. */
  TopK: (c) => {
    const { dims } = c.input(0);
    const axis = positiveAxis(intAttribute(c.node, 'axis', -1), dims.length);
    return [c.o.scatterElements(c.o.zeros(dims, c.g.dataType), c.output(1), { updates: c.g, axis })];
  },
  /** y = x with some elements replaced by updates, or increased: dx = g, without the replaced ones; du = g at their places. */
  ScatterElements: (c) => {
    const reduction = new TextDecoder().decode(findAttribute(c.node, 'reduction')?.s) || 'none';
    if (reduction !== 'none' && reduction !== 'add') throw unsupported(c.node, `it joins by "${reduction}".`);
    const indices = c.input(1);
    const axis = positiveAxis(intAttribute(c.node, 'axis', 0), c.g.dims.length);
    const without = () => c.o.scatterElements(c.g, indices, { updates: c.o.zeros(indices.dims, c.g.dataType), axis });
    return [reduction === 'add' || !c.wants(0) ? c.g : without(), undefined, c.o.gatherElements(c.g, indices, axis)];
  },
  /** y = elements of x picked one by one: each cotangent is added to the element it was read from. */
  GatherElements: (c) => {
    if (c.opset < 16) throw unsupported(c.node, 'it needs opset 16 or later.');
    const { dims } = c.input(0);
    const axis = positiveAxis(intAttribute(c.node, 'axis', 0), dims.length);
    const zeros = c.o.zeros(dims, c.g.dataType);
    return [
      c.o.emitter.node('ScatterElements', [zeros, c.input(1), c.g], {
        ...zeros,
        attributes: { axis, reduction: 'add' },
      }),
    ];
  },
  /** y = x with a border: dx = g without it. */
  Pad: (c) => {
    const { dims } = c.input(0);
    const before = c.ints(1);
    if (c.has(3)) throw unsupported(c.node, 'it pads chosen axes only.');
    return [
      dims.reduce((g, dim, axis) => {
        const start = before[axis] ?? 0;
        return c.o.slice(g, axis, { start, end: start + dim });
      }, c.g),
    ];
  },
} as const satisfies Record<string, VjpRule>;

function unslice(c: RuleContext): Cotangent {
  const { dims } = c.input(0);
  const starts = c.ints(1);
  const axes = c.has(3) ? c.ints(3) : starts.map((_, at) => at);
  const steps = c.has(4) ? c.ints(4) : starts.map(() => 1);
  const cuts = axes
    .map((given, at) => {
      const axis = positiveAxis(given, dims.length);
      const dim = dims[axis] ?? 0;
      const step = steps[at] ?? 1;
      const start = Math.min(Math.max(positiveAxis(starts[at] ?? 0, dim), 0), step < 0 ? dim - 1 : dim);
      return { axis, step, start };
    })
    .filter(({ axis, step }) => dims[axis] !== c.g.dims[axis] || step !== 1);
  const [only] = cuts;
  if (only === undefined) return c.g;
  if (cuts.length === 1 && only.step === 1) return { axis: only.axis, start: only.start, window: c.g };
  return cuts.reduce((g, cut) => spread(c, g, { ...cut, dim: dims[cut.axis] ?? 0 }), c.g);
}

interface Cut {
  readonly axis: number;
  readonly start: number;
  readonly step: number;
  readonly dim: number;
}

/** Puts the elements of g along one axis at start, start + step, ... of `dim` zeros. */
function spread({ o }: RuleContext, g: Value, { axis, start, step, dim }: Cut): Value {
  const length = g.dims[axis] ?? 0;
  if (step < 0) {
    const turned = o.slice(g, axis, { start: -1, end: -length - 1, step: -1 });
    return o.pad(dilate(o, turned, { axis, by: -step }), axis, {
      before: start + (length - 1) * step,
      after: dim - 1 - start,
    });
  }
  return o.pad(dilate(o, g, { axis, by: step }), axis, { before: start, after: dim - start - (length - 1) * step - 1 });
}

/** by - 1 zeros between neighbours along one axis. */
function dilate(o: RuleContext['o'], x: Value, { axis, by }: { axis: number; by: number }): Value {
  if (by === 1) return x;
  const length = x.dims[axis] ?? 0;
  const columns = o.reshape(x, [...x.dims.slice(0, axis + 1), 1, ...x.dims.slice(axis + 1)]);
  const padded = o.pad(columns, axis + 1, { before: 0, after: by - 1 });
  const flat = o.reshape(padded, x.dims.with(axis, length * by));
  return o.slice(flat, axis, { start: 0, end: (length - 1) * by + 1 });
}

function ungather(c: RuleContext, givenAxis: number, indexDims: readonly number[]): Cotangent {
  const x = c.input(0);
  const axis = positiveAxis(givenAxis, x.dims.length);
  const dim = x.dims[axis] ?? 0;
  const [outer, inner] = [x.dims.slice(0, axis), x.dims.slice(axis + 1)];
  const indices = c.input(1);
  const count = elementCount(indexDims);
  const rows = c.o.reshape(c.g, [...outer, count, ...inner]);
  const known = c.knownInts(1)?.map((index) => positiveAxis(index, dim));
  const start = known?.[0] ?? 0;
  if (known?.every((index, at) => index === start + at)) return { axis, start, window: rows };
  if (c.opset < 16) throw unsupported(c.node, 'indices that are not a constant range need opset 16 or later.');
  const places = c.o.reshape(indices, [...outer.map(() => 1), count, ...inner.map(() => 1)]);
  return c.o.emitter.node('ScatterElements', [c.o.zeros(x.dims, c.g.dataType), c.o.expand(places, rows.dims), rows], {
    dims: x.dims,
    dataType: c.g.dataType,
    attributes: { axis, reduction: 'add' },
  });
}
