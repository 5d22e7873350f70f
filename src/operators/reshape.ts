import { intsAttribute } from '../graph/attributes.js';
import { elementCount, positiveAxis } from '../graph/value.js';
import {
  type AxisLabel,
  type AxisRule,
  FREE,
  groupCode,
  NeedCoarserUnits,
  NOTHING,
  type RuleResult,
  type RuleSite,
  TraceStop,
  toOther,
} from './axis-rule.js';
import type { VjpRule } from './gradient-rule.js';
import { mendSizes } from './mend-rule.js';
import { byOpenRule, type Family, type Operator, PLAIN } from './operator.js';

/** Transpose: axis `i` of the output is axis `perm[i]` of the input. */
const permuted: AxisRule = (site) => {
  const input = site.node.input[0] ?? '';
  const rank = site.dims(input).length;
  const perm = intsAttribute(site.node, 'perm') ?? Array.from({ length: rank }, (_, axis) => rank - 1 - axis);
  const { axis } = site.label;
  return toOther(site, site.side === 'input' ? perm.indexOf(axis) : (perm[axis] ?? 0));
};

/**
 * Reshape and Flatten: the order of elements is kept, so that codes are propagated by element and must vary along one
 * axis of the other side only. Heads times head size requires coarser units; groups times members after an Expand is a
 * repeat of KV heads.
 */
const sameOrder: AxisRule = (site) => {
  const [input = '', output = ''] = [site.node.input[0], site.node.output[0]];
  if (site.side === 'input' && site.slot !== 0) throw new TraceStop('channels are used as a shape');
  const [from, to] = site.side === 'input' ? [input, output] : [output, input];
  const varying = carryCodes(site.dims(from), site.label, site.dims(to));
  if (varying.length === 1) return toOther(site, varying[0]!.axis, varying[0]!.codes);
  const repeat = site.side === 'output' ? findRepeat(site, input, varying) : undefined;
  if (repeat !== undefined) return repeat;
  // Tokens may be on the same axis, so that units repeat.
  throw new NeedCoarserUnits(new Set(varying[0]?.codes).size);
};

/**
 * Axes of the other shape along which the codes vary, with the codes along each (elsewhere at index 0). With one axis
 * the label is propagated.
 */
function carryCodes(from: readonly number[], { axis, codes }: AxisLabel, to: readonly number[]): AxisLabel[] {
  const inner = elementCount(from.slice(axis + 1));
  const total = elementCount(from);
  if (total === 0) throw new TraceStop('an empty tensor is reshaped');
  const codeAt = (flat: number): number => codes[Math.floor(flat / inner) % codes.length] ?? FREE;
  const labels = to.map((size, there) => {
    const stride = elementCount(to.slice(there + 1));
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
  const outer = elementCount(from.slice(0, axis));
  const aligned = labels.find(
    (label) => elementCount(to.slice(0, label.axis)) === outer && label.codes.length === codes.length,
  );
  const chosen = aligned ?? labels.find((label) => elementCount(to.slice(0, label.axis)) === outer) ?? labels[0];
  if (chosen === undefined) throw new TraceStop('a scalar cannot carry channels');
  return [{ axis: chosen.axis, codes: chosen.codes }];
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

/** Unsqueeze and Squeeze: inserted or dropped axes shift the others. */
const behindInserted: AxisRule = (site) => {
  const inserted = changedAxes(site, site.dims(site.node.output[0] ?? '').length);
  const shift = site.side === 'input' ? axisAfterInsertion : axisBeforeInsertion;
  return toOther(site, shift(site.label.axis, inserted));
};

const behindDropped: AxisRule = (site) => {
  const dims = site.dims(site.node.input[0] ?? '');
  const named = changedAxes(site, dims.length);
  const dropped = named.length > 0 ? named : dims.flatMap((dim, axis) => (dim === 1 ? [axis] : []));
  const shift = site.side === 'input' ? axisBeforeInsertion : axisAfterInsertion;
  return toOther(site, shift(site.label.axis, dropped));
};

function changedAxes({ node, ints }: RuleSite, rank: number): number[] {
  const given = intsAttribute(node, 'axes') ?? (node.input[1] ? ints(node.input[1]) : []);
  return given.map((axis) => positiveAxis(axis, rank)).sort((a, b) => a - b);
}

function axisAfterInsertion(axis: number, inserted: readonly number[]): number {
  return inserted.reduce((at, axisInserted) => (axisInserted <= at ? at + 1 : at), axis);
}

function axisBeforeInsertion(axis: number, inserted: readonly number[]): number {
  if (inserted.includes(axis)) throw new TraceStop('channels lie on an axis of size 1');
  return axis - inserted.filter((at) => at < axis).length;
}

/** Expand: aligned from the right; an axis expanded from 1 has no label in the input. */
const fromRight: AxisRule = (site) => {
  const [input = '', output = ''] = [site.node.input[0], site.node.output[0]];
  if (site.side === 'input' && site.slot !== 0) throw new TraceStop('channels are used as a shape');
  const shift = site.dims(output).length - site.dims(input).length;
  const { axis } = site.label;
  if (site.side === 'input') return toOther(site, axis + shift);
  const there = axis - shift;
  return there < 0 || site.dims(input)[there] === 1 ? NOTHING : toOther(site, there);
};

/** Tile: axes that are not repeated keep labels. */
const unrepeated: AxisRule = (site) => {
  const { axis, codes } = site.label;
  const repeats = site.ints(site.node.input[1] ?? '')[axis];
  if (repeats === 1) return toOther(site, axis);
  if (site.side === 'output' && site.dims(site.node.input[0] ?? '')[axis] === 1) return NOTHING;
  throw new TraceStop(`channels are tiled ${repeats} times (${codes.length} positions)`);
};

/** Same elements in the same order: dx = g in the shape of x. */
const reshapeBack: VjpRule = (c) => [c.o.reshape(c.g, c.input(0).dims)];

const relaid = (axis: AxisRule): Operator => ({ ...PLAIN, axis, tokens: 'layout', gradient: byOpenRule(reshapeBack) });

/** Operators that change the layout or repeat elements, such as keys and values over heads. */
export const RESHAPES = {
  /** Entries of 0 and -1 in its shape need no update. */
  Reshape: { ...relaid(sameOrder), mend: mendSizes((size) => size > 0) },
  Flatten: relaid(sameOrder),
  Squeeze: relaid(behindDropped),
  Unsqueeze: relaid(behindInserted),
  /** y = x with permuted axes: dx = g with the inverse permutation. */
  Transpose: {
    ...PLAIN,
    axis: permuted,
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
    axis: fromRight,
    mend: mendSizes((size) => size > 1),
    tokens: 'repeats',
    gradient: byOpenRule(({ g }) => [g]),
  },
  /** y = x repeated r times along each axis: dx = the sum over the copies. */
  Tile: {
    ...PLAIN,
    axis: unrepeated,
    mend: mendSizes((count) => count !== 1),
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
