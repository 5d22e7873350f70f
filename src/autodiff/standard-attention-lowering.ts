import { floatAttribute, intAttribute } from '../graph/attributes.js';
import { attend, causalMask, mergeHeads, splitHeads } from './attend.js';
import { BOOL, type Value } from './value.js';
import { type Lowering, type RuleContext, unsupported } from './vjp-rule.js';

/** ONNX's own Attention (opset 23 and later) written out, without past. Inputs: 0 Q, 1 K, 2 V, 3 mask, 4 and 5 past. */
export const STANDARD_ATTENTION_LOWERINGS = {
  Attention: (c) => {
    for (const input of [4, 5, 6]) {
      if (c.has(input) && !c.input(input).dims.includes(0)) {
        throw unsupported(c.node, 'it has a past or a length per window; gradients need runs without past.');
      }
    }
    const query = heads(c, 0, 'q_num_heads');
    const key = heads(c, 1, 'kv_num_heads');
    const value = heads(c, 2, 'kv_num_heads');
    const [rows = 1, size = 1] = query.dims.slice(2);
    const columns = key.dims[2] ?? 1;
    const biases: Value[] = [];
    if (intAttribute(c.node, 'is_causal', 0) === 1) biases.push(causalMask(c.o, { rows, columns }));
    if (c.has(3)) biases.push(readMask(c));
    const mixed = attend(c.o, {
      query,
      key,
      value,
      scale: floatAttribute(c.node, 'scale', 0) || 1 / Math.sqrt(size),
      softcap: floatAttribute(c.node, 'softcap', 0),
      biases,
    });
    return [c.input(0).dims.length === 3 ? mergeHeads(c.o, mixed) : mixed, key, value];
  },
} as const satisfies Record<string, Lowering>;

function heads(c: RuleContext, input: number, attribute: string): Value {
  const x = c.input(input);
  return x.dims.length === 3 ? splitHeads(c.o, x, intAttribute(c.node, attribute, 1)) : x;
}

/** True = attend, or scores to add. */
function readMask(c: RuleContext): Value {
  const mask = c.input(3);
  return mask.dataType === BOOL ? c.o.additiveMask(c.o.not(mask)) : mask;
}
