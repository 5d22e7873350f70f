import { floatAttribute, intAttribute, intsAttribute, setIntAttribute, setIntsAttribute } from '../onnx/attributes.js';
import { BOOL, FLOAT32 } from '../onnx/data-types.js';
import type { Value } from '../onnx/value.js';
import { attend, causalMask, mergeHeads, paddingMask, splitAxis, splitHeads } from './attend.js';
import { TraceStop } from './axis-rule.js';
import { type LoweringContext, refusePast, unsupported } from './gradient-rule.js';
import {
  channelsOf,
  fromOutput,
  groupHeads,
  isPresent,
  joinUnitIds,
  perCache,
  perChannel,
  perHead,
  updateHeadCounts,
} from './heads.js';
import { type Cache, type Family, missing, PLAIN } from './operator.js';
import type { UpdateRule } from './update-rule.js';

const MULTI_HEAD_CACHE: Cache = { past: [6, 7], present: [1, 2], headAxis: 1 };

/** Keys and values in one `[2, B, H, P, D]`. */
const PACKED_CACHE: Cache = { past: [4], present: [1], headAxis: 2 };

/** com.microsoft.MultiHeadAttention with separate query, key and value. */
const multiHeadAxes = fromOutput((site, heads) => {
  const { input } = site.node;
  if (!isPresent(input[1]) || !isPresent(input[2]))
    throw new TraceStop('packed query, key and value in MultiHeadAttention');
  const widths = input.slice(0, 3).map((value) => headChannels({ dims: site.dims(value) }, heads.length));
  const unitIds = joinUnitIds(...widths.map((width) => channelsOf(heads, width)));
  return {
    findings: [
      ...input.slice(0, 3).flatMap((value) => perChannel(site, value, heads)),
      ...(isPresent(input[3]) ? [{ value: input[3], label: { axis: 0, unitIds } }] : []),
      ...perHead(site, input[5], 1, heads),
      ...perCache(site, MULTI_HEAD_CACHE, heads),
    ],
  };
});

/** com.microsoft.Attention: the packed QKV projection is inside the node. */
const packedAttentionAxes = fromOutput((site, heads) => {
  const { input } = site.node;
  const weight = input[1] ?? '';
  const total = site.dims(weight)[1] ?? 0;
  const sizes = intsAttribute(site.node, 'qkv_hidden_sizes') ?? [total / 3, total / 3, total / 3];
  const unitIds = joinUnitIds(...sizes.map((size) => channelsOf(heads, size)));
  return {
    findings: [
      { value: weight, label: { axis: 1, unitIds } },
      ...(isPresent(input[2]) ? [{ value: input[2], label: { axis: 0, unitIds } }] : []),
      ...perCache(site, PACKED_CACHE, heads),
      ...perHead(site, input[5], 1, heads),
    ],
  };
});

const updatePacked: UpdateRule = ({ node, unitCount }) => {
  const heads = intAttribute(node, 'num_heads', 1);
  const sizes = intsAttribute(node, 'qkv_hidden_sizes')?.map((size) => (size / heads) * unitCount);
  if (sizes !== undefined) setIntsAttribute(node, 'qkv_hidden_sizes', sizes);
  setIntAttribute(node, 'num_heads', unitCount);
};

const STANDARD_CACHE: Cache = { past: [4, 5], present: [1, 2], headAxis: 1 };

/** ai.onnx Attention (opset 23), 3-D or 4-D operands. */
const standardAttentionAxes = fromOutput(
  (site, heads) => {
    const { input } = site.node;
    const keyDims = site.dims(input[1] ?? '');
    const groupCount = keyDims.length === 4 ? (keyDims[1] ?? 1) : intAttribute(site.node, 'kv_num_heads', heads.length);
    const { groups, sharing } = groupHeads(heads, groupCount);
    const maskAxis = isPresent(input[3]) ? site.dims(input[3]).length - 3 : -1;
    const findings = [
      ...perChannel(site, input[0], heads),
      ...perChannel(site, input[1], groups),
      ...perChannel(site, input[2], groups),
      ...(maskAxis >= 0 ? perHead(site, input[3], maskAxis, heads) : []),
      ...perCache(site, STANDARD_CACHE, groups),
    ];
    return { findings, ...sharing };
  },
  (site) => {
    const dims = site.dims(site.node.input[0] ?? '');
    return dims.length === 4 ? (dims[1] ?? 1) : intAttribute(site.node, 'q_num_heads', 1);
  },
);

/** A paged or sparse fused attention: recognised as attention, not supported otherwise. */
const notSupported = missing('its inputs are not supported yet');
const OTHER = { ...PLAIN, axis: notSupported, tokens: { causal: 'no' }, gradient: notSupported } as const;

/**
 * Fused attentions of ONNX and ONNX Runtime except GroupQueryAttention. The backward graph recomputes the probabilities
 * from query, key and value, in prefill form: without past, and past inputs of length 0 are ignored.
 */
export const ATTENTION = {
  'com.microsoft.Attention': {
    ...PLAIN,
    axis: packedAttentionAxes,
    update: updatePacked,
    tokens: { causal: { attribute: 'unidirectional' } },
    gradient: {
      lower: (c) => {
        refusePast(c, PACKED_CACHE.past);
        if (intAttribute(c.node, 'do_rotary', 0) === 1) throw unsupported(c.node, 'it rotates query and key itself.');
        const heads = intAttribute(c.node, 'num_heads', 1);
        const product = c.o.matMul(c.input(0), c.input(1));
        const packed = c.has(2) ? c.o.add(product, c.input(2)) : product;
        const third = (packed.dims[2] ?? 0) / 3;
        const lengths = intsAttribute(c.node, 'qkv_hidden_sizes') ?? [third, third, third];
        const parts = splitAxis(c.o, packed, { axis: 2, lengths }).map((part) => splitHeads(c.o, part, heads));
        return finish(c, parts, { mask: 3, bias: 5 }).slice(0, 1);
      },
    },
    parameters: { 1: 'matrix', 2: 'vector' },
    cache: PACKED_CACHE,
  },
  'com.microsoft.MultiHeadAttention': {
    ...PLAIN,
    axis: multiHeadAxes,
    update: updateHeadCounts('num_heads'),
    tokens: { causal: { attribute: 'unidirectional' } },
    gradient: {
      lower: (c) => {
        refusePast(c, MULTI_HEAD_CACHE.past);
        return finish(c, multiHeadParts(c), { mask: 4, bias: 5 });
      },
    },
    parameters: { 3: 'vector' },
    cache: MULTI_HEAD_CACHE,
  },
  /** ONNX's own Attention (opset 23 and later). Inputs: 0 Q, 1 K, 2 V, 3 mask, 4 and 5 past, 6 a length per window. */
  Attention: {
    ...PLAIN,
    axis: standardAttentionAxes,
    update: updateHeadCounts('q_num_heads', 'kv_num_heads'),
    tokens: { causal: { attribute: 'is_causal' } },
    gradient: {
      lower: (c) => {
        refusePast(c, [...STANDARD_CACHE.past, 6]);
        const query = standardHeads(c, 0, 'q_num_heads');
        const key = standardHeads(c, 1, 'kv_num_heads');
        const value = standardHeads(c, 2, 'kv_num_heads');
        const biases: Value[] = [];
        if (intAttribute(c.node, 'is_causal', 0) === 1) biases.push(causalMask(c.o, { query, key }));
        if (c.has(3)) biases.push(readStandardMask(c));
        const mixed = attend(c, { query, key, value, biases });
        return [c.input(0).dims.length === 3 ? mergeHeads(c.o, mixed) : mixed, key, value];
      },
    },
    cache: STANDARD_CACHE,
    needsSizes: true,
  },
  'com.microsoft.PagedAttention': OTHER,
  'com.microsoft.SparseAttention': OTHER,
} as const satisfies Family;

/** Query, key and value as `[B, H, S, D]`, split from 3-D inputs; key and value may already be 4-D. */
function multiHeadParts(c: LoweringContext): Value[] {
  const heads = intAttribute(c.node, 'num_heads', 1);
  if (c.input(0).dims.length !== 3) throw unsupported(c.node, 'query, key and value are packed into one input.');
  const operands = [0, 1, 2].map((at) => c.input(at));
  const biases = c.has(3)
    ? splitAxis(c.o, c.input(3), { axis: 0, lengths: operands.map((x) => headChannels(x, heads)) })
    : [];
  return operands.map((x, at) => {
    if (x.dims.length === 4) return x;
    const bias = biases[at];
    return splitHeads(c.o, bias === undefined ? x : c.o.add(x, bias), heads);
  });
}

const headChannels = ({ dims }: Pick<Value, 'dims'>, heads: number): number =>
  dims.length === 4 ? heads * (dims[3] ?? 0) : (dims[2] ?? 0);

function finish(
  c: LoweringContext,
  [query, key, value]: readonly Value[],
  inputs: { readonly mask: number; readonly bias: number },
): Value[] {
  if (query === undefined || key === undefined || value === undefined) {
    throw unsupported(c.node, 'query, key or value is missing.');
  }
  const rows = query.dims[2] ?? 1;
  const columns = key.dims[2] ?? 1;
  const biases: Value[] = [];
  if (intAttribute(c.node, 'unidirectional', 0) === 1) biases.push(causalMask(c.o, { query, key }));
  if (c.has(inputs.mask)) biases.push(keyMask(c, inputs.mask, { rows, columns }));
  if (c.has(inputs.bias)) biases.push(c.input(inputs.bias));
  return [mergeHeads(c.o, attend(c, { query, key, value, biases })), key, value];
}

interface MaskSize {
  readonly rows: number;
  readonly columns: number;
}

/** Mask inputs by rank: lengths `[B]`, keys `[B, L]`, pairs `[B, S, L]`, or a square `[B, 1, M, M]` to cut S x L from. */
function keyMask(c: LoweringContext, input: number, { rows, columns }: MaskSize): Value {
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

function standardHeads(c: LoweringContext, input: number, attribute: string): Value {
  const x = c.input(input);
  return x.dims.length === 3 ? splitHeads(c.o, x, intAttribute(c.node, attribute, 1)) : x;
}

/** True = attend, or scores to add. */
function readStandardMask(c: LoweringContext): Value {
  const mask = c.input(3);
  return mask.dataType === BOOL ? c.o.additiveMask(c.o.not(mask)) : mask;
}
