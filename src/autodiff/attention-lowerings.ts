import { floatAttribute, intAttribute, intsAttribute } from '../graph/attributes.js';
import { attend, causalMask, mergeHeads, paddingMask, splitAxis, splitHeads } from './attend.js';
import { FLOAT32, type Value } from './value.js';
import { type Lowering, type RuleContext, unsupported } from './vjp-rule.js';

/**
 * Fused attention operators written out: they hide their probabilities, so the backward graph computes them again from query,
 * key and value. All cover the prefill form: no past, and past inputs of length 0 are ignored.
 */
export const ATTENTION_LOWERINGS = {
  'com.microsoft.Attention': (c) => {
    refusePast(c, [4]);
    if (intAttribute(c.node, 'do_rotary', 0) === 1) throw unsupported(c.node, 'it rotates query and key itself.');
    const heads = intAttribute(c.node, 'num_heads', 1);
    const product = c.o.matMul(c.input(0), c.input(1));
    const packed = c.has(2) ? c.o.add(product, c.input(2)) : product;
    const third = (packed.dims[2] ?? 0) / 3;
    const lengths = intsAttribute(c.node, 'qkv_hidden_sizes') ?? [third, third, third];
    const parts = splitAxis(c.o, packed, { axis: 2, lengths }).map((part) => splitHeads(c.o, part, heads));
    return finish(c, parts, { mask: 3, bias: 5 }).slice(0, 1);
  },
  'com.microsoft.MultiHeadAttention': (c) => {
    refusePast(c, [6, 7]);
    return finish(c, multiHeadParts(c), { mask: 4, bias: 5 });
  },
} as const satisfies Record<string, Lowering>;

/** Query, key and value, each `[B, heads, rows, channels]`. */
type Parts = readonly Value[];

/** Query, key and value as `[B, H, S, D]`, split from 3-D inputs; key and value may come as 4-D ones already. */
function multiHeadParts(c: RuleContext): Parts {
  const heads = intAttribute(c.node, 'num_heads', 1);
  if (c.input(0).dims.length !== 3) throw unsupported(c.node, 'query, key and value are packed into one input.');
  const given = [0, 1, 2].map((at) => c.input(at));
  const biases = c.has(3)
    ? splitAxis(c.o, c.input(3), { axis: 0, lengths: given.map((x) => headChannels(x, heads)) })
    : [];
  return given.map((x, at) => {
    if (x.dims.length === 4) return x;
    const bias = biases[at];
    return splitHeads(c.o, bias === undefined ? x : c.o.add(x, bias), heads);
  });
}

const headChannels = ({ dims }: Value, heads: number): number =>
  dims.length === 4 ? heads * (dims[3] ?? 0) : (dims[2] ?? 0);

function finish(
  c: RuleContext,
  [query, key, value]: Parts,
  inputs: { readonly mask: number; readonly bias: number },
): Value[] {
  if (query === undefined || key === undefined || value === undefined) {
    throw unsupported(c.node, 'query, key or value is missing.');
  }
  const [rows = 1, size = 1] = query.dims.slice(2);
  const columns = key.dims[2] ?? 1;
  const biases: Value[] = [];
  if (intAttribute(c.node, 'unidirectional', 0) === 1) biases.push(causalMask(c.o, { rows, columns }));
  if (c.has(inputs.mask)) biases.push(keyMask(c, inputs.mask, { rows, columns }));
  if (c.has(inputs.bias)) biases.push(c.input(inputs.bias));
  const scale = floatAttribute(c.node, 'scale', 0) || 1 / Math.sqrt(size);
  return [mergeHeads(c.o, attend(c.o, { query, key, value, scale, biases })), key, value];
}

interface MaskSize {
  readonly rows: number;
  readonly columns: number;
}

/** Mask inputs by rank: lengths `[B]`, keys `[B, L]`, pairs `[B, S, L]`, or a square `[B, 1, M, M]` to cut S x L from. */
function keyMask(c: RuleContext, input: number, { rows, columns }: MaskSize): Value {
  const { o } = c;
  const mask = c.input(input);
  const filter = floatAttribute(c.node, 'mask_filter_value', -10000);
  const [batch = 1] = mask.dims;
  switch (mask.dims.length) {
    case 1: {
      if (batch !== c.input(0).dims[0])
        throw unsupported(c.node, `its mask of dims [${mask.dims}] is not one length per window.`);
      const lengths = o.cast(o.reshape(mask, [batch, 1, 1, 1]), FLOAT32);
      const positions = o.emitter.constant(
        FLOAT32,
        [columns],
        Array.from({ length: columns }, (_, at) => at),
      );
      return paddingMask(o, o.less(positions, lengths), filter);
    }
    case 2:
      return paddingMask(o, o.reshape(mask, [batch, 1, 1, columns]), filter);
    case 3:
      return paddingMask(o, o.reshape(mask, [batch, 1, rows, columns]), filter);
    default: {
      const cut = o.slice(o.slice(mask, 2, { start: 0, end: rows }), 3, { start: 0, end: columns });
      return paddingMask(o, cut, filter);
    }
  }
}

/** Throws when one of the inputs holds a past that is not empty. */
function refusePast(c: RuleContext, inputs: readonly number[]): void {
  for (const input of inputs) {
    if (!c.has(input) || c.input(input).dims.includes(0)) continue;
    throw unsupported(c.node, `its past has dims [${c.input(input).dims}]; gradients need runs without past.`);
  }
}
