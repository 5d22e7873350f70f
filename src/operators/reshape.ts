import { intsAttribute } from '../onnx/attributes.js';
import { elementCount, positiveAxis } from '../onnx/value.js';
import {
  type AxisLabel,
  type AxisRule,
  groupId,
  NeedCoarserUnits,
  NO_FINDINGS,
  NO_UNIT,
  type RuleResult,
  type RuleSite,
  TraceStop,
  toOtherSide,
} from './axis-rule.js';
import type { VjpRule } from './gradient-rule.js';
import { byOpenRule, type Family, type Operator, PLAIN } from './operator.js';
import { updateSizes } from './update-rule.js';

/** Transpose: axis `i` of the output is axis `perm[i]` of the input. */
const transposeAxes: AxisRule = (site) => {
  const input = site.node.input[0] ?? '';
  const rank = site.dims(input).length;
  const perm = intsAttribute(site.node, 'perm') ?? Array.from({ length: rank }, (_, axis) => rank - 1 - axis);
  const { axis } = site.label;
  return toOtherSide(site, site.side === 'input' ? perm.indexOf(axis) : (perm[axis] ?? 0));
};

/**
 * Reshape and Flatten: the order of elements is kept, so that codes are propagated by element and must vary along one
 * axis of the other side only. Heads times head size requires coarser units; groups times members after an Expand is a
 * repeat of KV heads.
 */
const reshapeAxes: AxisRule = (site) => {
  const [input = '', output = ''] = [site.node.input[0], site.node.output[0]];
  if (site.side === 'input' && site.slot !== 0) throw new TraceStop('channels are used as a shape');
  const [from, to] = site.side === 'input' ? [input, output] : [output, input];
  const varying = carryUnitIds(site.dims(from), site.label, site.dims(to));
  if (varying.length === 1) return toOtherSide(site, varying[0]!.axis, varying[0]!.unitIds);
  const repeat = site.side === 'output' ? findRepeat(site, input, varying) : undefined;
  if (repeat !== undefined) return repeat;
  // Tokens may be on the same axis, so that units repeat.
  throw new NeedCoarserUnits(new Set(varying[0]?.unitIds).size);
};

/**
 * Axes of the other shape along which the codes vary, with the codes along each (elsewhere at index 0). With one axis
 * the label is propagated.
 */
function carryUnitIds(from: readonly number[], { axis, unitIds }: AxisLabel, to: readonly number[]): AxisLabel[] {
  const inner = elementCount(from.slice(axis + 1));
  const total = elementCount(from);
  if (total === 0) throw new TraceStop('an empty tensor is reshaped');
  const codeAt = (flat: number): number => unitIds[Math.floor(flat / inner) % unitIds.length] ?? NO_UNIT;
  const labels = to.map((size, there) => {
    const stride = elementCount(to.slice(there + 1));
    return { axis: there, unitIds: Int32Array.from({ length: size }, (_, at) => codeAt(at * stride)), stride };
  });
  const varying = labels.filter(({ unitIds: along, stride }) => {
    const size = along.length;
    for (let flat = 0; flat < total; flat += 1) {
      const index = Math.floor(flat / stride) % size;
      if (index > 0 && codeAt(flat) !== codeAt(flat - stride)) return true;
    }
    return false;
  });
  if (varying.length > 0) return varying.map(({ axis: there, unitIds: along }) => ({ axis: there, unitIds: along }));
  const outer = elementCount(from.slice(0, axis));
  const aligned = labels.find(
    (label) => elementCount(to.slice(0, label.axis)) === outer && label.unitIds.length === unitIds.length,
  );
  const chosen = aligned ?? labels.find((label) => elementCount(to.slice(0, label.axis)) === outer) ?? labels[0];
  if (chosen === undefined) throw new TraceStop('a scalar cannot carry channels');
  return [{ axis: chosen.axis, unitIds: chosen.unitIds }];
}

/** Detects query heads as groups x members, where members are an Expand of one KV head. */
function findRepeat(site: RuleSite, value: string, varying: readonly AxisLabel[]): RuleResult | undefined {
  const expand = site.producerOf(value);
  if (expand?.opType !== 'Expand' || varying.length !== 2) return undefined;
  const source = expand.input[0] ?? '';
  const [group, member] = [varying[0]!, varying[1]!];
  const dims = site.dims(value);
  const sourceDims = site.dims(source);
  const shift = dims.length - sourceDims.length;
  if (sourceDims[member.axis - shift] !== 1 || sourceDims[group.axis - shift] !== group.unitIds.length)
    return undefined;
  const { unitIds } = site.label;
  const members = unitIds.length / group.unitIds.length;
  const groupOfUnit = new Int32Array(unitIds.length);
  unitIds.forEach((unit, at) => {
    if (unit < 0) throw new TraceStop('only query heads can be repeated from KV heads');
    groupOfUnit[unit] = Math.floor(at / members);
  });
  return {
    findings: [
      {
        value: source,
        label: { axis: group.axis - shift, unitIds: Int32Array.from(group.unitIds, (_, at) => groupId(at)) },
      },
    ],
    groupOfUnit,
    repeat: { value, groupAxis: group.axis, memberAxis: member.axis },
  };
}

/** Unsqueeze and Squeeze: inserted or dropped axes shift the others. */
const unsqueezeAxes: AxisRule = (site) => {
  const inserted = changedAxes(site, site.dims(site.node.output[0] ?? '').length);
  const shift = site.side === 'input' ? axisAfterInsertion : axisBeforeInsertion;
  return toOtherSide(site, shift(site.label.axis, inserted));
};

const squeezeAxes: AxisRule = (site) => {
  const dims = site.dims(site.node.input[0] ?? '');
  const named = changedAxes(site, dims.length);
  const dropped = named.length > 0 ? named : dims.flatMap((dim, axis) => (dim === 1 ? [axis] : []));
  const shift = site.side === 'input' ? axisBeforeInsertion : axisAfterInsertion;
  return toOtherSide(site, shift(site.label.axis, dropped));
};

function changedAxes({ node, ints }: RuleSite, rank: number): number[] {
  const given = intsAttribute(node, 'axes') ?? (node.input[1] ? ints(node.input[1]) : []);
  return given.map((axis) => positiveAxis(axis, rank)).sort((a, b) => a - b);
}

function axisAfterInsertion(axis: number, inserted: readonly number[]): number {
  return inserted.reduce((at, axisInserted) => (axisInserted <= at ? at + 1 : at), axis);
}

function axisBeforeInsertion(axis: number, inserted: readonly number[]): number {
  if (inserted.includes(axis)) throw new TraceStop('channels are on an axis of size 1');
  return axis - inserted.filter((at) => at < axis).length;
}

/** Expand: aligned from the right; an axis expanded from 1 has no label in the input. */
const expandAxes: AxisRule = (site) => {
  const [input = '', output = ''] = [site.node.input[0], site.node.output[0]];
  if (site.side === 'input' && site.slot !== 0) throw new TraceStop('channels are used as a shape');
  const shift = site.dims(output).length - site.dims(input).length;
  const { axis } = site.label;
  if (site.side === 'input') return toOtherSide(site, axis + shift);
  const there = axis - shift;
  return there < 0 || site.dims(input)[there] === 1 ? NO_FINDINGS : toOtherSide(site, there);
};

/** Tile: axes that are not repeated keep labels. */
const tileAxes: AxisRule = (site) => {
  const { axis, unitIds } = site.label;
  const repeats = site.ints(site.node.input[1] ?? '')[axis];
  if (repeats === 1) return toOtherSide(site, axis);
  if (site.side === 'output' && site.dims(site.node.input[0] ?? '')[axis] === 1) return NO_FINDINGS;
  throw new TraceStop(`channels are tiled ${repeats} times (${unitIds.length} positions)`);
};

/** Same elements in the same order: dx = g in the shape of x. */
const reshapeBack: VjpRule = (c) => [c.o.reshape(c.g, c.input(0).dims)];

const layoutChange = (axis: AxisRule): Operator => ({
  ...PLAIN,
  axis,
  tokens: 'layout',
  gradient: byOpenRule(reshapeBack),
});

/** Operators that change the layout or repeat elements, such as keys and values over heads. */
export const RESHAPES = {
  /** Entries of 0 and -1 in its shape need no update. */
  Reshape: { ...layoutChange(reshapeAxes), update: updateSizes((size) => size > 0) },
  Flatten: layoutChange(reshapeAxes),
  Squeeze: layoutChange(squeezeAxes),
  Unsqueeze: layoutChange(unsqueezeAxes),
  /** y = x with permuted axes: dx = g with the inverse permutation. */
  Transpose: {
    ...PLAIN,
    axis: transposeAxes,
    tokens: 'moves',
    gradient: byOpenRule((c) => {
      const { length } = c.input(0).dims;
      const perm = intsAttribute(c.node, 'perm') ?? Array.from({ length }, (_, at) => length - 1 - at);
      return [
        c.o.transpose(
          c.g,
          perm.map((_, axis) => perm.indexOf(axis)),
        ),
      ];
    }),
    weight: 'transposed',
  },
  /** y = x repeated along axes of length 1: dx = the sum, left to the driver. */
  Expand: {
    ...PLAIN,
    axis: expandAxes,
    update: updateSizes((size) => size > 1),
    tokens: 'repeats',
    gradient: byOpenRule(({ g }) => [g]),
  },
  /** y = x repeated r times along each axis: dx = the sum over the copies. */
  Tile: {
    ...PLAIN,
    axis: tileAxes,
    update: updateSizes((count) => count !== 1),
    tokens: 'repeats',
    gradient: (c) => {
      const { dims } = c.input(0);
      const repeats = c.ints(1);
      const copies = c.o.reshape(
        c.g,
        dims.flatMap((dim, axis) => [repeats[axis] ?? 1, dim]),
      );
      const sum = c.o.sum(
        copies,
        dims.map((_, axis) => 2 * axis),
        false,
      );
      return [c.o.reshape(sum, dims)];
    },
  },
} as const satisfies Family;
