import { intAttribute, intsAttribute } from '../graph/attributes.js';
import type { Value } from './value.js';
import type { RuleContext, VjpRule } from './vjp-rule.js';

/**
 * Gradients of rotary position embedding. It turns pairs of channels by an angle, so the gradient is turned back: the same
 * operator with the sine negated.
 */
export const ROTARY_RULES = {
  /** Inputs: x, position ids, cos cache, sin cache. */
  'com.microsoft.RotaryEmbedding': (c) => [turnBack(c, [c.input(1), c.input(2), c.o.neg(c.input(3))])],
  /** The same with a position on each of three axes, `[3, B, S]`: time, height and width. */
  'com.microsoft.MRotaryEmbedding': (c) => [
    turnBack(c, [c.input(1), c.input(2), c.o.neg(c.input(3))], {
      mrope_section: intsAttribute(c.node, 'mrope_section') ?? [],
      mrope_layout: intAttribute(c.node, 'mrope_layout', 0),
    }),
  ],
  /** Inputs: x, cos cache, sin cache, position ids (optional). */
  RotaryEmbedding: (c) => [turnBack(c, [c.input(1), c.o.neg(c.input(2)), c.has(3) ? c.input(3) : undefined])],
} as const satisfies Record<string, VjpRule>;

function turnBack(
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
