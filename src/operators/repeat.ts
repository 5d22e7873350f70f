import { type AxisRule, NOTHING, TraceStop, toOther } from './axis-rule.js';
import { mendSizes } from './mend-rule.js';
import { byOpenRule, byRule, type Family, PLAIN } from './operator.js';

/** Expand: aligned from the right; an axis that is blown up from 1 carries nothing back. */
const fromRight: AxisRule = (site) => {
  const [input = '', output = ''] = [site.node.input[0], site.node.output[0]];
  if (site.side === 'input' && site.slot !== 0) throw new TraceStop('channels arrive at a shape');
  const shift = site.dims(output).length - site.dims(input).length;
  const { axis } = site.label;
  if (site.side === 'input') return toOther(site, axis + shift);
  const there = axis - shift;
  return there < 0 || site.dims(input)[there] === 1 ? NOTHING : toOther(site, there);
};

/** Tile: axes that are not repeated carry over. */
const unrepeated: AxisRule = (site) => {
  const { axis, codes } = site.label;
  const repeats = site.ints(site.node.input[1] ?? '')[axis];
  if (repeats === 1) return toOther(site, axis);
  if (site.side === 'output' && site.dims(site.node.input[0] ?? '')[axis] === 1) return NOTHING;
  throw new TraceStop(`channels are tiled ${repeats} times (${codes.length} positions)`);
};

/** Operators that repeat a tensor, by which one key or value is spread over heads. */
export const REPEATS = {
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
