import { intAttribute, intsAttribute, setIntAttribute } from '../onnx/attributes.js';
import type { Value } from '../onnx/value.js';
import { equalShapeAxes } from './elementwise.js';
import type { RuleContext, VjpRule } from './gradient-rule.js';
import { type Family, type Operator, PLAIN } from './operator.js';
import type { UpdateRule } from './update-rule.js';

const updateHeads: UpdateRule = ({ node, labelOf, remainingPositions }) => {
  const heads = intAttribute(node, 'num_heads', 0);
  const label = labelOf(node.input[0] ?? '');
  if (heads === 0 || label === undefined) return;
  setIntAttribute(node, 'num_heads', (heads * remainingPositions(label).length) / label.unitIds.length);
};

/** It rotates within heads: entire heads keep labels. */
const rotary = (rule: VjpRule): Operator => ({
  ...PLAIN,
  axis: equalShapeAxes,
  update: updateHeads,
  tokens: 'moves',
  gradient: rule,
});

/**
 * Rotary position embedding. It rotates pairs of channels by an angle, so that the gradient is the inverse rotation:
 * the same operator with negated sine.
 */
export const ROTARY = {
  /** Inputs: x, position ids, cos cache, sin cache. */
  'com.microsoft.RotaryEmbedding': {
    ...rotary((c) => [rotateBack(c, [c.input(1), c.input(2), c.o.neg(c.input(3))])]),
    positionTable: 2,
  },
  /** Rotary embedding with a position on each of three axes, `[3, B, S]`: time, height and width. */
  'com.microsoft.MRotaryEmbedding': rotary((c) => [
    rotateBack(c, [c.input(1), c.input(2), c.o.neg(c.input(3))], {
      mrope_section: intsAttribute(c.node, 'mrope_section') ?? [],
      mrope_layout: intAttribute(c.node, 'mrope_layout', 0),
    }),
  ]),
  /** Inputs: x, cos cache, sin cache, position ids (optional). */
  RotaryEmbedding: rotary((c) => [rotateBack(c, [c.input(1), c.o.neg(c.input(2)), c.has(3) ? c.input(3) : undefined])]),
} as const satisfies Family;

function rotateBack(
  c: RuleContext,
  inputs: readonly (Value | undefined)[],
  own: Readonly<Record<string, number | readonly number[]>> = {},
): Value {
  const names = ['interleaved', 'num_heads', 'rotary_embedding_dim'];
  return c.o.emitter.node(c.node.opType, [c.g, ...inputs], {
    ...c.g,
    domain: c.node.domain,
    attributes: { ...Object.fromEntries(names.map((name) => [name, intAttribute(c.node, name, 0)])), ...own },
  });
}
