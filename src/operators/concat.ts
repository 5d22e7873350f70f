import { sum } from '../linalg/sum.js';
import { intAttribute, intsAttribute, setIntsAttribute } from '../onnx/attributes.js';
import { positiveAxis } from '../onnx/value.js';
import { type AxisRule, labelledValue, NO_UNIT, type RuleResult, type RuleSite, TraceStop } from './axis-rule.js';
import { unsupported, type WindowCotangent } from './gradient-rule.js';
import { type Family, missing, PLAIN } from './operator.js';
import type { UpdateRule } from './update-rule.js';

/** Concat: along another axis all operands share the label; along the same axis each has its part. */
const concatAxes: AxisRule = (site) => {
  const [output = ''] = site.node.output;
  const rank = site.dims(output).length;
  const along = positiveAxis(intAttribute(site.node, 'axis', 0), rank);
  return joined(site, along, site.node.input, output);
};

/** Split: the inverse of Concat. */
const splitAxes: AxisRule = (site) => {
  const [input = ''] = site.node.input;
  const along = positiveAxis(intAttribute(site.node, 'axis', 0), site.dims(input).length);
  if (site.side === 'input' && site.slot !== 0) throw new TraceStop('channels are used as split sizes');
  return joined(
    site,
    along,
    site.node.output.filter((value) => value !== ''),
    input,
  );
};

/** Labels of a tensor and its parts along `along`. */
function joined(site: RuleSite, along: number, parts: readonly string[], whole: string): RuleResult {
  const from = labelledValue(site);
  const { axis, unitIds } = site.label;
  if (axis !== along) {
    const others = [...parts, whole].filter((value) => value !== from);
    return { findings: others.map((value) => ({ value, label: site.label })) };
  }
  const sizes = parts.map((value) => site.dims(value)[along] ?? 0);
  const starts = sizes.map((_, at) => sum(sizes.slice(0, at)));
  if (from === whole) {
    return {
      findings: parts.map((value, at) => ({
        value,
        label: { axis, unitIds: unitIds.slice(starts[at] ?? 0, (starts[at] ?? 0) + (sizes[at] ?? 0)) },
      })),
    };
  }
  const wide = new Int32Array(sum(sizes)).fill(NO_UNIT);
  parts.forEach((value, at) => {
    if (value === from) wide.set(unitIds, starts[at]);
  });
  return { findings: [{ value: whole, label: { axis, unitIds: wide } }] };
}

const updateSplit: UpdateRule = (site) => {
  const { node } = site;
  const [input = ''] = node.input;
  const whole = site.labelOf(input);
  if (whole === undefined || positiveAxis(intAttribute(node, 'axis', 0), site.dims(input).length) !== whole.axis)
    return;
  site.checkFixed(input, whole.axis);
  const sizes = node.output.map((value) => {
    const label = site.labelOf(value);
    return label === undefined ? (site.dims(value)[whole.axis] ?? 0) : site.remainingPositions(label).length;
  });
  if (intsAttribute(node, 'split') !== undefined) {
    setIntsAttribute(node, 'split', sizes);
    return;
  }
  node.attribute = node.attribute.filter(({ name }) => name !== 'num_outputs');
  site.setInts(1, sizes);
};

/** Operators that concatenate, split or pad. */
export const CONCATS = {
  /** y = concatenation of the inputs: each dx is its window of g. */
  Concat: {
    ...PLAIN,
    axis: concatAxes,
    tokens: 'moves',
    gradient: (c) => {
      const axis = positiveAxis(intAttribute(c.node, 'axis', 0), c.g.dims.length);
      let start = 0;
      return c.node.input.map((_, at) => {
        const end = start + (c.input(at).dims[axis] ?? 0);
        const part = c.wants(at) ? c.o.slice(c.g, axis, { start, end }) : undefined;
        start = end;
        return part;
      });
    },
  },
  /** Each part's cotangent is a window of dx. */
  Split: {
    ...PLAIN,
    axis: splitAxes,
    update: updateSplit,
    tokens: 'moves',
    gradient: (c) => {
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
  },
  /** y = x with padding: dx = g without it. */
  Pad: {
    ...PLAIN,
    axis: missing('padding cannot be distinguished from channels'),
    tokens: 'moves',
    gradient: (c) => {
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
  },
} as const satisfies Family;
