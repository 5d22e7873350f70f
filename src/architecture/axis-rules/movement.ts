import type { NodeProto } from 'onnx-buf';
import { intAttribute, intsAttribute } from '../../graph/attributes.js';
import {
  type AxisLabel,
  type AxisRule,
  arrivedAt,
  type Codes,
  type Finding,
  FREE,
  frontAxis,
  groupCode,
  NeedCoarserUnits,
  NOTHING,
  type RuleResult,
  type RuleSite,
  TraceStop,
} from './axis-rule.js';

/** Transpose: axis `i` of the output is axis `perm[i]` of the input. */
export const transpose: AxisRule = (site) => {
  const input = site.node.input[0] ?? '';
  const rank = site.dims(input).length;
  const perm = intsAttribute(site.node, 'perm') ?? Array.from({ length: rank }, (_, axis) => rank - 1 - axis);
  const { axis, codes } = site.label;
  return site.side === 'input'
    ? toOutput(site, { axis: perm.indexOf(axis), codes })
    : toInput(site, { axis: perm[axis] ?? 0, codes });
};

/**
 * Reshape and Flatten: the elements keep their order, so the codes are carried element by element and must vary along
 * one axis of the other side only. Heads times head size asks for coarser units; groups times members behind an Expand
 * is a repeat of KV heads.
 */
export const reshape: AxisRule = (site) => {
  const [input = '', output = ''] = [site.node.input[0], site.node.output[0]];
  if (site.side === 'input' && site.slot !== 0) throw new TraceStop('channels arrive at a shape');
  const [from, to] = site.side === 'input' ? [input, output] : [output, input];
  const varying = carryCodes(site.dims(from), site.label, site.dims(to));
  if (varying.length === 1) return { findings: [{ value: to, label: varying[0]! }] };
  const repeat = site.side === 'output' ? findRepeat(site, input, varying) : undefined;
  if (repeat !== undefined) return repeat;
  throw new NeedCoarserUnits(site.dims(to)[varying[0]?.axis ?? 0] ?? 1);
};

/**
 * Axes of the other shape along which the codes vary, with the codes along each (elsewhere at index 0).
 * One axis means the label carries over.
 */
export function carryCodes(from: readonly number[], { axis, codes }: AxisLabel, to: readonly number[]): AxisLabel[] {
  const inner = product(from.slice(axis + 1));
  const total = product(from);
  if (total === 0) throw new TraceStop('an empty tensor is reshaped');
  const codeAt = (flat: number): number => codes[Math.floor(flat / inner) % codes.length] ?? FREE;
  const labels = to.map((size, there) => {
    const stride = product(to.slice(there + 1));
    return { axis: there, codes: Int32Array.from({ length: size }, (_, at) => codeAt(at * stride)), stride };
  });
  const varies = labels.filter(({ codes: along, stride }) => {
    const size = along.length;
    for (let flat = 0; flat < total; flat += 1) {
      const index = Math.floor(flat / stride) % size;
      if (index > 0 && codeAt(flat) !== codeAt(flat - stride)) return true;
    }
    return false;
  });
  if (varies.length > 0) return varies.map(({ axis: there, codes: along }) => ({ axis: there, codes: along }));
  const outer = product(from.slice(0, axis));
  const aligned = labels.find(
    (label) => product(to.slice(0, label.axis)) === outer && label.codes.length === codes.length,
  );
  const chosen = aligned ?? labels.find((label) => product(to.slice(0, label.axis)) === outer) ?? labels[0];
  if (chosen === undefined) throw new TraceStop('a scalar cannot carry channels');
  return [{ axis: chosen.axis, codes: chosen.codes }];
}

/** Query heads seen as groups x members where the members come from an Expand of one KV head. */
function findRepeat(site: RuleSite, value: string, varying: readonly AxisLabel[]): RuleResult | undefined {
  const expand = site.producerOf(value);
  if (expand?.opType !== 'Expand' || varying.length !== 2) return undefined;
  const source = expand.input[0] ?? '';
  const [group, member] = [varying[0]!, varying[1]!];
  const dims = site.dims(value);
  const sourceDims = site.dims(source);
  const shift = dims.length - sourceDims.length;
  if (sourceDims[member.axis - shift] !== 1 || sourceDims[group.axis - shift] !== group.codes.length) return undefined;
  const { codes } = site.label;
  const members = codes.length / group.codes.length;
  const groupOfUnit = new Int32Array(codes.length);
  codes.forEach((unit, at) => {
    if (unit < 0) throw new TraceStop('only query heads can be repeated from KV heads');
    groupOfUnit[unit] = Math.floor(at / members);
  });
  return {
    findings: [
      {
        value: source,
        label: { axis: group.axis - shift, codes: Int32Array.from(group.codes, (_, at) => groupCode(at)) },
      },
    ],
    groupOfUnit,
    repeat: { value, groupAxis: group.axis, memberAxis: member.axis },
  };
}

/** Expand: aligned from the right; an axis that is blown up from 1 carries nothing back. */
export const expand: AxisRule = (site) => {
  const [input = '', output = ''] = [site.node.input[0], site.node.output[0]];
  if (site.side === 'input' && site.slot !== 0) throw new TraceStop('channels arrive at a shape');
  const shift = site.dims(output).length - site.dims(input).length;
  const { axis, codes } = site.label;
  if (site.side === 'input') return toOutput(site, { axis: axis + shift, codes });
  const there = axis - shift;
  return there < 0 || site.dims(input)[there] === 1 ? NOTHING : toInput(site, { axis: there, codes });
};

/** Tile: axes that are not repeated carry over. */
export const tile: AxisRule = (site) => {
  const { axis, codes } = site.label;
  const repeats = site.ints(site.node.input[1] ?? '')[axis];
  if (repeats === 1) return site.side === 'input' ? toOutput(site, site.label) : toInput(site, site.label);
  if (site.side === 'output' && site.dims(site.node.input[0] ?? '')[axis] === 1) return NOTHING;
  throw new TraceStop(`channels are tiled ${repeats} times (${codes.length} positions)`);
};

/** Unsqueeze and Squeeze: inserted or dropped axes shift the others. */
export const unsqueeze: AxisRule = (site) => {
  const inserted = changedAxes(site, site.dims(site.node.output[0] ?? '').length);
  return site.side === 'input'
    ? toOutput(site, { ...site.label, axis: axisAfterInsertion(site.label.axis, inserted) })
    : toInput(site, { ...site.label, axis: axisBeforeInsertion(site.label.axis, inserted) });
};

export const squeeze: AxisRule = (site) => {
  const dims = site.dims(site.node.input[0] ?? '');
  const named = changedAxes(site, dims.length);
  const dropped = named.length > 0 ? named : dims.flatMap((dim, axis) => (dim === 1 ? [axis] : []));
  return site.side === 'input'
    ? toOutput(site, { ...site.label, axis: axisBeforeInsertion(site.label.axis, dropped) })
    : toInput(site, { ...site.label, axis: axisAfterInsertion(site.label.axis, dropped) });
};

function changedAxes({ node, ints }: RuleSite, rank: number): number[] {
  const given = intsAttribute(node, 'axes') ?? (node.input[1] ? ints(node.input[1]) : []);
  return given.map((axis) => frontAxis(axis, rank)).sort((a, b) => a - b);
}

function axisAfterInsertion(axis: number, inserted: readonly number[]): number {
  return inserted.reduce((at, axisInserted) => (axisInserted <= at ? at + 1 : at), axis);
}

function axisBeforeInsertion(axis: number, inserted: readonly number[]): number {
  if (inserted.includes(axis)) throw new TraceStop('channels lie on an axis of size 1');
  return axis - inserted.filter((at) => at < axis).length;
}

/** Concat: along another axis all operands share the label; along the same axis each has its run of it. */
export const concat: AxisRule = (site) => {
  const [output = ''] = site.node.output;
  const rank = site.dims(output).length;
  const along = frontAxis(intAttribute(site.node, 'axis', 0), rank);
  return joined(site, along, site.node.input, output);
};

/** Split: the mirror of Concat. */
export const split: AxisRule = (site) => {
  const [input = ''] = site.node.input;
  const along = frontAxis(intAttribute(site.node, 'axis', 0), site.dims(input).length);
  if (site.side === 'input' && site.slot !== 0) throw new TraceStop('channels arrive at split sizes');
  return joined(
    site,
    along,
    site.node.output.filter((value) => value !== ''),
    input,
  );
};

/** Labels among a whole and its parts along `along`. */
function joined(site: RuleSite, along: number, parts: readonly string[], whole: string): RuleResult {
  const from = arrivedAt(site);
  const { axis, codes } = site.label;
  if (axis !== along) {
    const others = [...parts, whole].filter((value) => value !== from);
    return { findings: others.map((value) => ({ value, label: site.label })) };
  }
  const sizes = parts.map((value) => site.dims(value)[along] ?? 0);
  const starts = sizes.map((_, at) => sizes.slice(0, at).reduce((sum, size) => sum + size, 0));
  if (from === whole) {
    return {
      findings: parts.map((value, at) => ({
        value,
        label: { axis, codes: codes.slice(starts[at] ?? 0, (starts[at] ?? 0) + (sizes[at] ?? 0)) },
      })),
    };
  }
  const wide = new Int32Array(sizes.reduce((sum, size) => sum + size, 0)).fill(FREE);
  parts.forEach((value, at) => {
    if (value === from) wide.set(codes, starts[at]);
  });
  return { findings: [{ value: whole, label: { axis, codes: wide } }] };
}

/** Slice: the kept positions of the axis, in order. */
export const slice: AxisRule = (site) => {
  const [input = '', output = ''] = [site.node.input[0], site.node.output[0]];
  if (site.side === 'input' && site.slot !== 0) throw new TraceStop('channels arrive at slice bounds');
  const positions = slicedPositions(site, site.label.axis, site.dims(input));
  if (positions === undefined) return site.side === 'input' ? toOutput(site, site.label) : toInput(site, site.label);
  const { axis, codes } = site.label;
  if (site.side === 'input') return { findings: [{ value: output, label: { axis, codes: pick(codes, positions) } }] };
  return {
    findings: [{ value: input, label: { axis, codes: spread(codes, positions, site.dims(input)[axis] ?? 0) } }],
  };
};

/** Positions of the input that a Slice takes along `axis`; `undefined` when it leaves that axis alone. */
export function slicedPositions(
  { node, ints }: Pick<RuleSite, 'node' | 'ints'>,
  axis: number,
  dims: readonly number[],
): number[] | undefined {
  const starts = intsAttribute(node, 'starts') ?? ints(node.input[1] ?? '');
  const ends = intsAttribute(node, 'ends') ?? ints(node.input[2] ?? '');
  const axes = intsAttribute(node, 'axes') ?? (node.input[3] ? ints(node.input[3]) : starts.map((_, at) => at));
  const steps = node.input[4] ? ints(node.input[4]) : starts.map(() => 1);
  const at = axes.findIndex((given) => frontAxis(given, dims.length) === axis);
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

/** Gather: other axes carry over; along the gathered axis constant indices pick positions. */
export const gather: AxisRule = (site) => {
  const [table = '', indices = ''] = site.node.input;
  const [output = ''] = site.node.output;
  if (site.side === 'input' && site.slot !== 0) throw new TraceStop('channels arrive at gather indices');
  const dims = site.dims(table);
  const along = frontAxis(intAttribute(site.node, 'axis', 0), dims.length);
  const indexRank = site.dims(indices).length;
  const { axis, codes } = site.label;
  const picked = (): readonly number[] => {
    if (indexRank !== 1 || !site.isConstant(indices)) throw new TraceStop('channels are gathered by computed indices');
    return site.ints(indices).map((at) => frontAxis(at, dims[along] ?? 0));
  };
  if (site.side === 'input') {
    if (axis === along) return { findings: [{ value: output, label: { axis, codes: pick(codes, picked()) } }] };
    return { findings: [{ value: output, label: { axis: axis < along ? axis : axis + indexRank - 1, codes } }] };
  }
  if (axis >= along && axis < along + indexRank) {
    return { findings: [{ value: table, label: { axis: along, codes: spread(codes, picked(), dims[along] ?? 0) } }] };
  }
  return { findings: [{ value: table, label: { axis: axis < along ? axis : axis - indexRank + 1, codes } }] };
};

/** GatherND by one constant index each: a Gather along the first axis. Channels must lie on another one. */
export const gatherNd: AxisRule = (site) => {
  const [table = '', indices = ''] = site.node.input;
  if (site.side === 'input' && site.slot !== 0) throw new TraceStop('channels arrive at gather indices');
  const indexDims = site.dims(indices);
  if (intAttribute(site.node, 'batch_dims', 0) !== 0 || indexDims.at(-1) !== 1) {
    throw new TraceStop('elements are gathered by more than one index each');
  }
  const shift = indexDims.length - 2;
  const { axis, codes } = site.label;
  if (site.side === 'input' ? axis === 0 : axis <= shift) throw new TraceStop('channels are picked one by one');
  return site.side === 'input'
    ? toOutput(site, { axis: axis + shift, codes })
    : { findings: [{ value: table, label: { axis: axis - shift, codes } }] };
};

const pick = (codes: Codes, positions: readonly number[]): Codes =>
  Int32Array.from(positions, (position) => codes[position] ?? FREE);

function spread(codes: Codes, positions: readonly number[], size: number): Codes {
  const wide = new Int32Array(size).fill(FREE);
  positions.forEach((position, at) => {
    wide[position] = codes[at] ?? FREE;
  });
  return wide;
}

const product = (dims: readonly number[]): number => dims.reduce((total, dim) => total * dim, 1);
const toOutput = ({ node }: { node: NodeProto }, label: AxisLabel): RuleResult => one(node.output[0], label);
const toInput = ({ node }: { node: NodeProto }, label: AxisLabel): RuleResult => one(node.input[0], label);
const one = (value: string | undefined, label: AxisLabel): RuleResult => {
  const findings: Finding[] = [{ value: value ?? '', label }];
  return { findings };
};
