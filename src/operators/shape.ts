import { intAttribute } from '../onnx/attributes.js';
import { positiveAxis } from '../onnx/value.js';
import { NO_FINDINGS } from './axis-rule.js';
import type { VjpRule } from './gradient-rule.js';
import { type Family, missing, type Operator, PLAIN } from './operator.js';
import { SAME, type UpdateRule } from './update-rule.js';

/** Sizes computed from pruned values still refer to the dense model, so that operands are updated one by one. */
const updateShape: UpdateRule = (site) => {
  const { node } = site;
  const [input = ''] = node.input;
  const rank = site.dims(input).length;
  const size = site.dims(node.output[0] ?? '')[0] ?? rank;
  const start = positiveAxis(intAttribute(node, 'start', 0), rank);
  const resized = new Map([...site.resizes(input)].map(([axis, resize]) => [axis - start, resize]));
  const ratios = Array.from({ length: size }, (_, at) => {
    const { from, to } = resized.get(at) ?? SAME;
    return { from: to, to: from };
  });
  site.scaleOutput(ratios, ({ opType, input: [, indices = ''] }) => {
    if (opType !== 'Gather' || !site.isConstant(indices)) return true;
    return site.ints(indices).some((at) => resized.has(positiveAxis(at, size)));
  });
};

/** A filled tensor has the size of its shape operand. */
const updateFilled: UpdateRule = ({ node, resizes, resizeEntries }) => resizeEntries(0, resizes(node.output[0] ?? ''));

/** Operators on sizes and indices. */
const sizeOperator = (axis: Operator['axis']): Operator => ({ ...PLAIN, axis, tokens: 'moves', gradient: 'zero' });
const NO_CHANNELS = missing('it computes sizes or indices, not channels');

const byPosition = (gradient: VjpRule): Operator => ({
  ...PLAIN,
  axis: missing('each sum, or triangle, depends on positions along its axes'),
  tokens: 'moves',
  gradient,
});

const LOOP: Operator = {
  ...PLAIN,
  axis: missing('its body is a subgraph'),
  tokens: 'moves',
  gradient: missing('its body is a subgraph'),
  refusal: 'graphs with loops cannot be pruned; export one decoder step',
};

/** Sizes, ranges and triangles, which compute positions and masks. */
export const SHAPES = {
  Shape: { ...sizeOperator(() => NO_FINDINGS), update: updateShape },
  Size: sizeOperator(() => NO_FINDINGS),
  ConstantOfShape: { ...sizeOperator(NO_CHANNELS), update: updateFilled },
  OneHot: sizeOperator(NO_CHANNELS),
  Range: sizeOperator(NO_CHANNELS),
  /** y_i = x_1 + ... + x_i: dx is the reverse cumulative sum. */
  CumSum: {
    ...byPosition(({ g, o, node, input }) => {
      const attributes = {
        exclusive: intAttribute(node, 'exclusive', 0),
        reverse: 1 - intAttribute(node, 'reverse', 0),
      };
      return [o.emitter.node('CumSum', [g, input(1)], { ...g, attributes })];
    }),
    tokens: 'mixer',
  },
  /** y = triangle of x: dx = the same triangle of g. */
  Trilu: byPosition(({ g, o, node, has, input }) => {
    const attributes = { upper: intAttribute(node, 'upper', 1) };
    return [o.emitter.node('Trilu', [g, has(1) ? input(1) : undefined], { ...g, attributes })];
  }),
  Loop: LOOP,
  Scan: LOOP,
} as const satisfies Family;
