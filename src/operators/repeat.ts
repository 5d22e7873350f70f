import { type AxisRule, NOTHING, TraceStop, toInput, toOutput } from './axis-rule.js';
import type { MendRule } from './mend-rule.js';
import { byOpenRule, byRule, type Family, PLAIN } from './operator.js';

/** Expand: aligned from the right; an axis that is blown up from 1 carries nothing back. */
const fromRight: AxisRule = (site) => {
  const [input = '', output = ''] = [site.node.input[0], site.node.output[0]];
  if (site.side === 'input' && site.slot !== 0) throw new TraceStop('channels arrive at a shape');
  const shift = site.dims(output).length - site.dims(input).length;
  const { axis, codes } = site.label;
  if (site.side === 'input') return toOutput(site, { axis: axis + shift, codes });
  const there = axis - shift;
  return there < 0 || site.dims(input)[there] === 1 ? NOTHING : toInput(site, { axis: there, codes });
};

/** Tile: axes that are not repeated carry over. */
const unrepeated: AxisRule = (site) => {
  const { axis, codes } = site.label;
  const repeats = site.ints(site.node.input[1] ?? '')[axis];
  if (repeats === 1) return site.side === 'input' ? toOutput(site, site.label) : toInput(site, site.label);
  if (site.side === 'output' && site.dims(site.node.input[0] ?? '')[axis] === 1) return NOTHING;
  throw new TraceStop(`channels are tiled ${repeats} times (${codes.length} positions)`);
};

/** Expand aligns its shape from the right, and an entry of 1 leaves an axis as it is. */
const mendExpand: MendRule = (site) => {
  const shape = site.ints(site.node.input[1] ?? '');
  const output = site.node.output[0] ?? '';
  const shift = site.dims(output).length - shape.length;
  const axes = [...site.resizes(output)].map(([axis, resize]) => [axis - shift, resize] as const);
  site.resizeEntries(1, new Map(axes.filter(([axis]) => (shape[axis] ?? 1) > 1)));
};

/** An operand of size 1 along the units is blown up by a repeat count. */
const mendTile: MendRule = (site) => {
  const repeats = site.ints(site.node.input[1] ?? '');
  const axes = [...site.resizes(site.node.output[0] ?? '')];
  site.resizeEntries(1, new Map(axes.filter(([axis]) => repeats[axis] !== 1)));
};

/** Operators that repeat a tensor, by which one key or value is spread over heads. */
export const REPEATS = {
  /** y = x repeated along axes of length 1: dx = the sum, left to the driver. */
  Expand: { ...PLAIN, axis: fromRight, mend: mendExpand, tokens: 'repeats', gradient: byOpenRule(({ g }) => [g]) },
  /** y = x repeated r times along each axis: dx = the sum over the copies. */
  Tile: {
    ...PLAIN,
    axis: unrepeated,
    mend: mendTile,
    tokens: 'repeats',
    gradient: byRule((c) => {
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
    }),
  },
} as const satisfies Family;
