import { intAttribute } from '../graph/attributes.js';
import { BOOL, type Value } from '../graph/value.js';
import { attend, causalMask, mergeHeads, splitHeads } from './attend.js';
import { type LoweringContext, refusePast } from './gradient-rule.js';
import { fromOutput, groupHeads, isPresent, mendHeadCounts, perCache, perChannel, perHead } from './heads.js';
import { type Cache, type Family, PLAIN } from './operator.js';

const CACHE: Cache = { past: [4, 5], present: [1, 2], headAxis: 1 };

/** ai.onnx Attention (opset 23), 3-D or 4-D operands. */
const alongHeads = fromOutput(
  (site, heads) => {
    const { input } = site.node;
    const keyDims = site.dims(input[1] ?? '');
    const groupCount = keyDims.length === 4 ? (keyDims[1] ?? 1) : intAttribute(site.node, 'kv_num_heads', heads.length);
    const { groups, told } = groupHeads(heads, groupCount);
    const maskRank = isPresent(input[3]) ? site.dims(input[3]).length : 0;
    const findings = [
      ...perChannel(site, input[0], heads),
      ...perChannel(site, input[1], groups),
      ...perChannel(site, input[2], groups),
      ...(maskRank === 4 ? perHead(site, input[3], 1, heads) : []),
      ...perCache(site, CACHE, groups),
    ];
    return { findings, ...told };
  },
  (site) => {
    const dims = site.dims(site.node.input[0] ?? '');
    return dims.length === 4 ? (dims[1] ?? 1) : intAttribute(site.node, 'q_num_heads', 1);
  },
);

/** ONNX's own Attention (opset 23 and later). Inputs: 0 Q, 1 K, 2 V, 3 mask, 4 and 5 past, 6 a length per window. */
export const STANDARD_ATTENTION = {
  Attention: {
    ...PLAIN,
    axis: alongHeads,
    mend: mendHeadCounts('q_num_heads', 'kv_num_heads'),
    tokens: { causal: { attribute: 'is_causal' } },
    gradient: {
      lower: (c) => {
        refusePast(c, [...CACHE.past, 6]);
        const query = heads(c, 0, 'q_num_heads');
        const key = heads(c, 1, 'kv_num_heads');
        const value = heads(c, 2, 'kv_num_heads');
        const biases: Value[] = [];
        if (intAttribute(c.node, 'is_causal', 0) === 1) biases.push(causalMask(c.o, { query, key }));
        if (c.has(3)) biases.push(readMask(c));
        const mixed = attend(c, { query, key, value, biases });
        return [c.input(0).dims.length === 3 ? mergeHeads(c.o, mixed) : mixed, key, value];
      },
    },
    cache: CACHE,
  },
} as const satisfies Family;

function heads(c: LoweringContext, input: number, attribute: string): Value {
  const x = c.input(input);
  return x.dims.length === 3 ? splitHeads(c.o, x, intAttribute(c.node, attribute, 1)) : x;
}

/** True = attend, or scores to add. */
function readMask(c: LoweringContext): Value {
  const mask = c.input(3);
  return mask.dataType === BOOL ? c.o.additiveMask(c.o.not(mask)) : mask;
}
