import { intAttribute, intsAttribute } from '../../graph/attributes.js';
import { type AxisRule, frontAxis, TraceStop } from './axis-rule.js';
import { sameShape } from './elementwise.js';

/** Softmax and norms: axes in front of the normalised ones carry over; along them channels depend on each other. */
export const normaliseLast: AxisRule = (site) => {
  const rank = site.dims(site.node.input[0] ?? '').length;
  const first = frontAxis(intAttribute(site.node, 'axis', -1), rank);
  if (site.label.axis >= first) {
    throw new TraceStop('the channels are normalised together, so removing some changes the others');
  }
  return sameShape(site);
};

/** Reductions: axes that are not reduced carry over. */
export const reduce: AxisRule = (site) => {
  const [input = ''] = site.node.input;
  const [output = ''] = site.node.output;
  if (site.side === 'input' && site.slot !== 0) throw new TraceStop('channels arrive at reduction axes');
  const rank = site.dims(input).length;
  const given = intsAttribute(site.node, 'axes') ?? (site.node.input[1] ? site.ints(site.node.input[1]) : []);
  const axes = (given.length > 0 ? given : Array.from({ length: rank }, (_, axis) => axis)).map((axis) =>
    frontAxis(axis, rank),
  );
  const keeps = intAttribute(site.node, 'keepdims', 1) !== 0;
  const { axis, codes } = site.label;
  const dropped = (upTo: number): number => (keeps ? 0 : axes.filter((at) => at < upTo).length);
  if (site.side === 'input') {
    if (axes.includes(axis))
      throw new TraceStop('the channels are reduced together, so removing some changes the others');
    return { findings: [{ value: output, label: { axis: axis - dropped(axis), codes } }] };
  }
  const kept = Array.from({ length: rank }, (_, at) => at).filter((at) => keeps || !axes.includes(at));
  return { findings: [{ value: input, label: { axis: kept[axis] ?? 0, codes } }] };
};
