import { intAttribute, textAttribute } from '../onnx/attributes.js';
import { INT64 } from '../onnx/data-types.js';
import { elementCount, positiveAxis, type Value } from '../onnx/value.js';
import { type AxisRule, pickUnitIds, scatterUnitIds, TraceStop, toOtherSide } from './axis-rule.js';
import { type Cotangent, type RuleContext, unsupported, type VjpRule } from './gradient-rule.js';
import { byOpenRule, type Family, missing, type Operator, PLAIN } from './operator.js';
import type { UpdateRule } from './update-rule.js';

/** Gather: other axes carry over; along the gathered axis constant indices pick positions. */
const gatherAxes: AxisRule = (site) => {
  const [table = '', indices = ''] = site.node.input;
  if (site.side === 'input' && site.slot !== 0) throw new TraceStop('channels are used as gather indices');
  const dims = site.dims(table);
  const along = positiveAxis(intAttribute(site.node, 'axis', 0), dims.length);
  const indexRank = site.dims(indices).length;
  const { axis, unitIds } = site.label;
  const picked = (): readonly number[] => {
    if (indexRank !== 1 || !site.isConstant(indices)) throw new TraceStop('channels are gathered by computed indices');
    return site.ints(indices).map((at) => positiveAxis(at, dims[along] ?? 0));
  };
  if (site.side === 'input') {
    if (axis === along) return toOtherSide(site, axis, pickUnitIds(unitIds, picked()));
    return toOtherSide(site, axis < along ? axis : axis + indexRank - 1);
  }
  if (axis >= along && axis < along + indexRank) {
    return toOtherSide(site, along, scatterUnitIds(unitIds, picked(), dims[along] ?? 0));
  }
  return toOtherSide(site, axis < along ? axis : axis - indexRank + 1);
};

/** GatherND by one constant index each: a Gather along the first axis. Channels must be on another axis. */
const gatherNdAxes: AxisRule = (site) => {
  if (site.side === 'input' && site.slot !== 0) throw new TraceStop('channels are used as gather indices');
  const indexDims = site.dims(site.node.input[1] ?? '');
  if (intAttribute(site.node, 'batch_dims', 0) !== 0 || indexDims.at(-1) !== 1) {
    throw new TraceStop('elements are gathered by more than one index each');
  }
  const shift = indexDims.length - 2;
  const { axis } = site.label;
  if (site.side === 'input' ? axis === 0 : axis <= shift) throw new TraceStop('channels are picked one by one');
  return toOtherSide(site, site.side === 'input' ? axis + shift : axis - shift);
};

/** ScatterND by indices of one number each: rows of the first axis are replaced. Channels must be on another axis. */
const scatterNdAxes: AxisRule = ({ node, side, slot, label, dims }) => {
  const [data = '', indices = '', updates = ''] = node.input;
  const indexDims = dims(indices);
  if (side === 'input' && slot === 1) throw new TraceStop('channels are used as scatter indices');
  if (indexDims.at(-1) !== 1) throw new TraceStop('elements are scattered by more than one index each');
  const shift = indexDims.length - 2;
  const axis = label.axis - (side === 'input' && slot === 2 ? shift : 0);
  if (axis < 1) throw new TraceStop('channels are replaced one by one');
  const [result = ''] = node.output;
  const findings = [data, result].map((value) => ({ value, label: { axis, unitIds: label.unitIds } }));
  return { findings: [...findings, { value: updates, label: { axis: axis + shift, unitIds: label.unitIds } }] };
};

const updateGather: UpdateRule = (site) => {
  const { node } = site;
  const [table = '', indices = ''] = node.input;
  const label = site.labelOf(table);
  const output = site.labelOf(node.output[0] ?? '');
  if (label === undefined || positiveAxis(intAttribute(node, 'axis', 0), site.dims(table).length) !== label.axis)
    return;
  // Computed indices need no change: the node that computes them chooses among fewer.
  if (!site.isConstant(indices)) return;
  site.checkFixed(table, label.axis);
  const newIndex = new Map([...site.remainingPositions(label)].map((position, at) => [position, at]));
  const old = site.ints(indices).map((at) => positiveAxis(at, label.unitIds.length));
  const positions = output === undefined ? old.map((_, at) => at) : [...site.remainingPositions(output)];
  site.setInts(
    1,
    positions.map((at) => newIndex.get(old[at] ?? 0) ?? 0),
  );
};

/** Elements picked one by one, channels among them. */
const oneByOne = (rule: VjpRule): Operator => ({
  ...PLAIN,
  axis: missing('elements are picked one by one, by computed indices'),
  tokens: 'moves',
  gradient: rule,
});

/** Operators that pick elements by index, or put them back. */
export const GATHERS = {
  /** y = x[..., indices, ...]: every row of g is added to the row it was read from. */
  Gather: {
    ...PLAIN,
    axis: gatherAxes,
    update: updateGather,
    tokens: 'moves',
    gradient: byOpenRule((c) => [ungather(c, intAttribute(c.node, 'axis', 0), c.input(1).dims)]),
  },
  /** Gather along the first axis, for indices of one number each. */
  GatherND: {
    ...PLAIN,
    axis: gatherNdAxes,
    tokens: 'moves',
    gradient: (c) => {
      const { dims } = c.input(1);
      if (intAttribute(c.node, 'batch_dims', 0) !== 0 || dims.at(-1) !== 1) {
        throw unsupported(c.node, 'it gathers by more than one index each.');
      }
      return [ungather(c, 0, dims.slice(0, -1))];
    },
  },
  /** y = elements of x picked one by one: each cotangent is added to the element it was read from. */
  GatherElements: oneByOne((c) => {
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
  }),
  /** y = x with some elements replaced by updates, or increased: dx = g, without the replaced ones; du = g at their positions. */
  ScatterElements: {
    ...PLAIN,
    axis: missing('elements are put back one by one, by computed indices'),
    tokens: 'moves',
    gradient: byOpenRule((c) => {
      const reduction = textAttribute(c.node, 'reduction') || 'none';
      if (reduction !== 'none' && reduction !== 'add') throw unsupported(c.node, `its reduction is "${reduction}".`);
      const indices = c.input(1);
      const axis = positiveAxis(intAttribute(c.node, 'axis', 0), c.g.dims.length);
      const without = () => c.o.scatterElements(c.g, indices, { updates: c.o.zeros(indices.dims, c.g.dataType), axis });
      return [reduction === 'add' || !c.wants(0) ? c.g : without(), undefined, c.o.gatherElements(c.g, indices, axis)];
    }),
  },
  /** Slices of x replaced by updates, or increased: dx = g without the replaced ones, du = g at their positions. */
  ScatterND: {
    ...PLAIN,
    axis: scatterNdAxes,
    tokens: 'moves',
    gradient: (c) => {
      const reduction = textAttribute(c.node, 'reduction') || 'none';
      if (reduction !== 'none' && reduction !== 'add') throw unsupported(c.node, `its reduction is "${reduction}".`);
      const [x, indices, updates] = [c.input(0), c.input(1), c.input(2)];
      const { dataType } = c.g;
      const without = () =>
        c.o.emitter.node('ScatterND', [c.g, indices, c.o.zeros(updates.dims, dataType)], { dims: x.dims, dataType });
      return [
        reduction === 'add' || !c.wants(0) ? c.g : without(),
        undefined,
        c.o.emitter.node('GatherND', [c.g, indices], { dims: updates.dims, dataType }),
      ];
    },
  },
  /** y = the k largest elements along an axis and their indices: dx = g there. Routers use it. */
  TopK: {
    ...oneByOne((c) => {
      const { dims } = c.input(0);
      const axis = positiveAxis(intAttribute(c.node, 'axis', -1), dims.length);
      return [c.o.scatterElements(c.o.zeros(dims, c.g.dataType), c.output(1), { updates: c.g, axis })];
    }),
    tokens: 'experts',
  },
} as const satisfies Family;

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
  if (axis === 0 && dim <= FEW_ROWS && c.producer(0) === undefined)
    return addRows(c, c.o.reshape(c.g, [count, elementCount(inner)]));
  if (c.opset < 16) throw unsupported(c.node, 'indices that are not a constant range need opset 16 or later.');
  const places = c.o.reshape(indices, [...outer.map(() => 1), count, ...inner.map(() => 1)]);
  return c.o.emitter.node('ScatterElements', [c.o.zeros(x.dims, c.g.dataType), c.o.expand(places, rows.dims), rows], {
    dims: x.dims,
    dataType: c.g.dataType,
    attributes: { axis, reduction: 'add' },
  });
}

/** Largest number of rows for a one-hot product; experts have fewer. */
const FEW_ROWS = 512;

/**
 * The gradient of a weight with few rows from which each token picks some: a product with a one-hot matrix is much
 * faster than scattering elements, and needs no large indices.
 * @param rows `[indices, elements of a row]`
 */
function addRows({ o, input }: RuleContext, rows: Value): Value {
  const { dims } = input(0);
  const [count = 1] = rows.dims;
  const indices = o.reshape(o.cast(input(1), INT64), [1, count]);
  const fromStart = o.where(o.less(indices, 0), o.add(indices, dims[0] ?? 1), indices);
  const isPicked = o.cast(o.equal(o.range([dims[0] ?? 1, 1]), fromStart), rows.dataType);
  return o.reshape(o.matMul(isPicked, rows), dims);
}
