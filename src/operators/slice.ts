import type { NodeProto } from 'onnx-buf';
import { UnsupportedModelError } from '../errors.js';
import { intsAttribute, setIntsAttribute } from '../onnx/attributes.js';
import { nodeLabel } from '../onnx/graph-index.js';
import { positiveAxis, type Value } from '../onnx/value.js';
import {
  type AxisLabel,
  type AxisRule,
  pickUnitIds,
  type RuleSite,
  scatterUnitIds,
  TraceStop,
  toOtherSide,
} from './axis-rule.js';
import type { Cotangent, RuleContext } from './gradient-rule.js';
import { type Family, PLAIN } from './operator.js';
import type { UpdateRule, UpdateSite } from './update-rule.js';

/** Range of a Slice along one axis; starts and ends are clamped. */
interface Cut {
  readonly axis: number;
  readonly size: number;
  readonly step: number;
  readonly start: number;
  /** A function, since gradients do not need it. */
  end(): number;
}

/** Cuts in the order of the operands; `ints` reads an input. */
function readCuts(node: NodeProto, dims: readonly number[], ints: (slot: number) => readonly number[]): Cut[] {
  const starts = intsAttribute(node, 'starts') ?? ints(1);
  const axes = intsAttribute(node, 'axes') ?? (node.input[3] ? ints(3) : starts.map((_, at) => at));
  const steps = node.input[4] ? ints(4) : [];
  return axes.map((given, at) => {
    const axis = positiveAxis(given, dims.length);
    const [size, step] = [dims[axis] ?? 0, steps[at] ?? 1];
    const clamp = (bound: number, low: number): number =>
      Math.min(Math.max(positiveAxis(bound, size), low), step > 0 ? size : size - 1);
    const end = () => clamp((intsAttribute(node, 'ends') ?? ints(2))[at] ?? 0, step > 0 ? 0 : -1);
    return { axis, size, step, start: clamp(starts[at] ?? 0, 0), end };
  });
}

const cutsOf = ({ node, dims, ints }: RuleSite | UpdateSite): Cut[] =>
  readCuts(node, dims(node.input[0] ?? ''), (slot) => ints(node.input[slot] ?? ''));

function slicedPositions({ start, end, step }: Cut): number[] {
  const count = Math.max(0, Math.ceil((end() - start) / step));
  return Array.from({ length: count }, (_, at) => start + at * step);
}

/** The kept positions of the axis, in order. */
const sliceAxes: AxisRule = (site) => {
  if (site.side === 'input' && site.slot !== 0) throw new TraceStop('channels are used as slice bounds');
  const { axis, unitIds } = site.label;
  const cut = cutsOf(site).find((found) => found.axis === axis);
  if (cut === undefined) return toOtherSide(site, axis);
  const positions = slicedPositions(cut);
  return toOtherSide(
    site,
    axis,
    site.side === 'input' ? pickUnitIds(unitIds, positions) : scatterUnitIds(unitIds, positions, cut.size),
  );
};

const updateSlice: UpdateRule = (site) => {
  const { node } = site;
  const [input = ''] = node.input;
  const label = site.labelOf(input);
  if (label === undefined) return;
  const cuts = cutsOf(site);
  const at = cuts.findIndex(({ axis }) => axis === label.axis);
  if (at < 0) return;
  site.checkFixed(input, label.axis);
  const { start, end } = newBounds(site, slicedPositions(cuts[at]!), label);
  const starts = intsAttribute(node, 'starts');
  if (starts !== undefined) {
    setIntsAttribute(node, 'starts', starts.with(at, start));
    setIntsAttribute(node, 'ends', (intsAttribute(node, 'ends') ?? []).with(at, end));
    return;
  }
  for (const [slot, bound] of [start, end].entries()) {
    const from = site.ints(node.input[slot + 1] ?? '')[at] ?? 0;
    site.resizeEntries(slot + 1, new Map([[at, { from, to: bound }]]));
  }
};

/** Bounds of the remaining positions on the pruned axis; the step must stay the same. */
function newBounds({ node, remainingPositions }: UpdateSite, sliced: readonly number[], label: AxisLabel) {
  const newIndex = new Map([...remainingPositions(label)].map((position, at) => [position, at]));
  const positions = sliced.map((position) => newIndex.get(position)).filter((at) => at !== undefined);
  const step = sliced.length > 1 ? sliced[1]! - sliced[0]! : 1;
  const [start = 0] = positions;
  if (positions.some((position, at) => position !== start + at * step)) {
    throw new UnsupportedModelError(
      `${nodeLabel(node)} reads every ${step}th channel, and the remaining ones are not evenly spaced`,
    );
  }
  const end = (positions.at(-1) ?? start - step) + Math.sign(step);
  return { start, end: end < 0 ? -Number.MAX_SAFE_INTEGER : end };
}

export const SLICES = {
  /** dx = zeros with g at the positions that were read. */
  Slice: {
    ...PLAIN,
    axis: sliceAxes,
    update: updateSlice,
    tokens: 'moves',
    gradient: (c) => [unslice(c)],
  },
} as const satisfies Family;

function unslice(c: RuleContext): Cotangent {
  const cuts = readCuts(c.node, c.input(0).dims, c.ints).filter(
    ({ axis, size, step }) => size !== c.g.dims[axis] || step !== 1,
  );
  const [only] = cuts;
  if (only === undefined) return c.g;
  if (cuts.length === 1 && only.step === 1) return { axis: only.axis, start: only.start, window: c.g };
  return cuts.reduce((g, cut) => spread(c, g, cut), c.g);
}

/** Puts the elements of g along one axis at start, start + step, ... of `size` zeros. */
function spread({ o }: RuleContext, g: Value, { axis, start, step, size }: Cut): Value {
  const length = g.dims[axis] ?? 0;
  if (step < 0) {
    const turned = o.slice(g, axis, { start: -1, end: -length - 1, step: -1 });
    return o.pad(dilate(o, turned, { axis, by: -step }), axis, {
      before: start + (length - 1) * step,
      after: size - 1 - start,
    });
  }
  return o.pad(dilate(o, g, { axis, by: step }), axis, {
    before: start,
    after: size - start - (length - 1) * step - 1,
  });
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
