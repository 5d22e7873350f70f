import { findAttribute, floatAttribute, intAttribute } from '../graph/attributes.js';
import { attend, causalMask, mergeHeads, splitAxis, splitHeads } from './attend.js';
import { FLOAT32, INT64, type Value } from './value.js';
import { type Lowering, type RuleContext, unsupported } from './vjp-rule.js';

/**
 * GroupQueryAttention written out, prefill form: no past, every token valid, positions 0..S-1.
 * Inputs: 0 query or packed `[q | k | v]`, 1 key, 2 value, 3 and 4 past, 7 and 8 cos and sin caches, 10 attention bias,
 * 11 head sinks, 14 and 15 RMS norm weights of query and key heads.
 */
export const GROUP_QUERY_LOWERINGS = {
  'com.microsoft.GroupQueryAttention': (c) => {
    refuseCaches(c);
    const { query, key, value } = readHeads(c);
    const [rows = 1, size = 1] = query.dims.slice(2);
    const columns = key.dims[2] ?? 1;
    const biases: Value[] = [];
    if (intAttribute(c.node, 'causal', 1) === 1) {
      const window = intAttribute(c.node, 'local_window_size', -1);
      biases.push(causalMask(c.o, { rows, columns, ...(window > 0 && window < rows && { window: window - 1 }) }));
    }
    if (c.has(10)) biases.push(c.input(10));
    const mixed = attend(c.o, {
      query,
      key,
      value,
      scale: floatAttribute(c.node, 'scale', 0) || 1 / Math.sqrt(size),
      softcap: floatAttribute(c.node, 'softcap', 0),
      biases,
      sink: readSink(c, query.dims[1] ?? 1),
    });
    return [mergeHeads(c.o, mixed), key, value];
  },
} as const satisfies Record<string, Lowering>;

function refuseCaches(c: RuleContext): void {
  if (c.has(3) && !c.input(3).dims.includes(0)) {
    throw unsupported(c.node, `its past has dims [${c.input(3).dims}]; gradients need runs without past.`);
  }
  for (const name of ['k_quant_type', 'v_quant_type']) {
    const type = new TextDecoder().decode(findAttribute(c.node, name)?.s);
    if (type !== '' && type !== 'NONE') throw unsupported(c.node, `its cache is quantised (${name} = ${type}).`);
  }
}

/** Query `[B, H, S, D]`, key and value `[B, K, S, D]`: unpacked, normed and rotated as the attributes say. */
function readHeads(c: RuleContext): { readonly query: Value; readonly key: Value; readonly value: Value } {
  const { o } = c;
  const heads = intAttribute(c.node, 'num_heads', 1);
  const kvHeads = intAttribute(c.node, 'kv_num_heads', 1);
  const parts = c.has(1)
    ? [splitHeads(o, c.input(0), heads), splitHeads(o, c.input(1), kvHeads), splitHeads(o, c.input(2), kvHeads)]
    : splitAxis(o, splitHeads(o, c.input(0), heads + 2 * kvHeads), { axis: 1, lengths: [heads, kvHeads, kvHeads] });
  const [query, key, value] = parts;
  if (query === undefined || key === undefined || value === undefined) throw unsupported(c.node, 'inputs are missing.');
  return { query: rotate(c, norm(c, query, 14)), key: rotate(c, norm(c, key, 15)), value };
}

function norm(c: RuleContext, x: Value, weight: number): Value {
  if (!c.has(weight)) return x;
  return c.o.emitter.node('SimplifiedLayerNormalization', [x, c.input(weight)], {
    ...x,
    attributes: { axis: -1, epsilon: { float: floatAttribute(c.node, 'qk_norm_epsilon', 1e-6) } },
  });
}

function rotate(c: RuleContext, x: Value): Value {
  if (intAttribute(c.node, 'do_rotary', 0) === 0) return x;
  const [batch = 1, heads = 1, rows = 1, size = 1] = x.dims;
  const cos = c.input(7);
  const rotated = 2 * (cos.dims[1] ?? 0);
  const positions = c.o.emitter.constant(
    INT64,
    [batch, rows],
    Array.from({ length: batch * rows }, (_, at) => at % rows),
  );
  return c.o.emitter.node('RotaryEmbedding', [x, positions, cos, c.input(8)], {
    ...x,
    domain: 'com.microsoft',
    attributes: {
      interleaved: intAttribute(c.node, 'rotary_interleaved', 0),
      ...(rotated < size && { num_heads: heads, rotary_embedding_dim: rotated }),
    },
  });
}

/** A sink per head, or a score of 0 for all when the softmax is "smooth". */
function readSink(c: RuleContext, heads: number): Value | undefined {
  if (c.has(11)) return c.input(11);
  return intAttribute(c.node, 'smooth_softmax', 0) === 1
    ? c.o.emitter.constant(FLOAT32, [heads], new Array<number>(heads).fill(0))
    : undefined;
}
