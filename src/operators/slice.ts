import { UnsupportedModelError } from '../errors.js';
import { intsAttribute, setIntsAttribute } from '../graph/attributes.js';
import { nodeLabel } from '../graph/graph-index.js';
import { positiveAxis, type Value } from '../graph/value.js';
import {
  type AxisLabel,
  type AxisRule,
  pickCodes,
  type RuleSite,
  spreadCodes,
  TraceStop,
  toInput,
  toOutput,
} from './axis-rule.js';
import type { Cotangent, RuleContext } from './gradient-rule.js';
import type { MendRule, MendSite } from './mend-rule.js';
import { byRule, type Family, PLAIN } from './operator.js';

/** Slice: the kept positions of the axis, in order. */
const alongSlice: AxisRule = (site) => {
  const [input = '', output = ''] = [site.node.input[0], site.node.output[0]];
  if (site.side === 'input' && site.slot !== 0) throw new TraceStop('channels arrive at slice bounds');
  const positions = slicedPositions(site, site.label.axis, site.dims(input));
  if (positions === undefined) return site.side === 'input' ? toOutput(site, site.label) : toInput(site, site.label);
  const { axis, codes } = site.label;
  if (site.side === 'input')
    return { findings: [{ value: output, label: { axis, codes: pickCodes(codes, positions) } }] };
  return {
    findings: [{ value: input, label: { axis, codes: spreadCodes(codes, positions, site.dims(input)[axis] ?? 0) } }],
  };
};

/** Positions of the input that a Slice takes along `axis`; `undefined` when it leaves that axis alone. */
function slicedPositions(
  { node, ints }: Pick<RuleSite, 'node' | 'ints'>,
  axis: number,
  dims: readonly number[],
): number[] | undefined {
  const starts = intsAttribute(node, 'starts') ?? ints(node.input[1] ?? '');
  const ends = intsAttribute(node, 'ends') ?? ints(node.input[2] ?? '');
  const axes = intsAttribute(node, 'axes') ?? (node.input[3] ? ints(node.input[3]) : starts.map((_, at) => at));
  const steps = node.input[4] ? ints(node.input[4]) : starts.map(() => 1);
  const at = axes.findIndex((given) => positiveAxis(given, dims.length) === axis);
  if (at < 0) return undefined;
  const size = dims[axis] ?? 0;
  const step = steps[at] ?? 1;
  const clamp = (bound: number, low: number, high: number): number =>
    Math.min(Math.max(bound < 0 ? bound + size : bound, low), high);
  const start = step > 0 ? clamp(starts[at] ?? 0, 0, size) : clamp(starts[at] ?? 0, 0, size - 1);
  const end = step > 0 ? clamp(ends[at] ?? 0, 0, size) : clamp(ends[at] ?? 0, -1, size - 1);
  const positions: number[] = [];
  for (let position = start; step > 0 ? position < end : position > end; position += step) positions.push(position);
  return positions;
}

const mendSlice: MendRule = (site) => {
  const { node } = site;
  const [input = ''] = node.input;
  const label = site.labelOf(input);
  const dims = site.dims(input);
  if (label === undefined) return;
  const taken = slicedPositions(site, label.axis, dims);
  if (taken === undefined) return;
  site.checkFixed(input, label.axis);
  const { start, end } = newBounds(site, taken, label);
  const starts = intsAttribute(node, 'starts') ?? site.ints(node.input[1] ?? '');
  const axes = intsAttribute(node, 'axes') ?? (node.input[3] ? site.ints(node.input[3]) : starts.map((_, at) => at));
  const at = axes.findIndex((axis) => positiveAxis(axis, dims.length) === label.axis);
  if (intsAttribute(node, 'starts') !== undefined) {
    setIntsAttribute(node, 'starts', starts.with(at, start));
    setIntsAttribute(node, 'ends', (intsAttribute(node, 'ends') ?? []).with(at, end));
    return;
  }
  for (const [slot, bound] of [start, end].entries()) {
    const from = site.ints(node.input[slot + 1] ?? '')[at] ?? 0;
    site.resizeEntries(slot + 1, new Map([[at, { from, to: bound }]]));
  }
};

/** Bounds that take the surviving positions out of the narrowed axis; their step must stay what it was. */
function newBounds({ node, keptPositions }: MendSite, taken: readonly number[], label: AxisLabel) {
  const newIndex = new Map([...keptPositions(label)].map((position, at) => [position, at]));
  const positions = taken.map((position) => newIndex.get(position)).filter((at) => at !== undefined);
  const step = taken.length > 1 ? taken[1]! - taken[0]! : 1;
  const [start = 0] = positions;
  if (positions.some((position, at) => position !== start + at * step)) {
    throw new UnsupportedModelError(
      `${nodeLabel(node)} takes every ${step}th channel, and what is left of them is not evenly spaced`,
    );
  }
  const end = (positions.at(-1) ?? start - step) + Math.sign(step);
  return { start, end: end < 0 ? -Number.MAX_SAFE_INTEGER : end };
}

export const SLICES = {
  /** dx = zeros with g at the places that were read. */
  Slice: {
    ...PLAIN,
    axis: alongSlice,
    mend: mendSlice,
    tokens: 'moves',
    gradient: byRule((c) => [unslice(c)]),
  },
} as const satisfies Family;

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
