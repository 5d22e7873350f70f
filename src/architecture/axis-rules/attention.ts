import { intAttribute, intsAttribute } from '../../graph/attributes.js';
import {
  type AxisRule,
  type Codes,
  type Finding,
  FREE,
  groupCode,
  NeedCoarserUnits,
  type RuleResult,
  type RuleSite,
  TraceStop,
} from './axis-rule.js';

/**
 * Fused attention: labels arrive at the output, head by head, and go to every operand that has a head axis.
 * Labels that arrive at an operand came from that output, so nothing more is learnt.
 */
const fromOutput =
  (spread: (site: RuleSite, unitOfHead: Codes) => RuleResult, headCount: (site: RuleSite) => number): AxisRule =>
  (site) => {
    if (site.side === 'input' || site.slot !== 0) return { findings: [] };
    return spread(site, unitPerHead(site, headCount(site)));
  };

/** Code of each head on the output's channel axis; every head must be one unit. */
function unitPerHead(site: RuleSite, headCount: number): Codes {
  const { axis, codes } = site.label;
  const rank = site.dims(site.node.output[0] ?? '').length;
  if (rank === 4 && axis === 1) return codes;
  if (axis !== rank - 1) throw new TraceStop('channels are not on the head axis of the attention');
  const headSize = codes.length / headCount;
  const heads = Int32Array.from({ length: headCount }, (_, head) => codes[head * headSize] ?? 0);
  const whole = codes.every((code, at) => code === heads[Math.floor(at / headSize)]);
  if (!whole || new Set(heads).size !== heads.length) throw new NeedCoarserUnits(headCount);
  return heads;
}

/** Repeats each head's code over its channels. */
const channelsOf = (heads: Codes, width: number): Codes => {
  const headSize = width / heads.length;
  return Int32Array.from({ length: width }, (_, at) => heads[Math.floor(at / headSize)] ?? 0);
};

const joinCodes = (...parts: readonly Codes[]): Codes => Int32Array.from(parts.flatMap((part) => [...part]));

const present = (value: string | undefined): value is string => value !== undefined && value !== '';

/** Operand with one entry per head along `axis`; of size 1 it is shared by all heads and carries nothing. */
function perHead(site: RuleSite, value: string | undefined, axis: number, heads: Codes): Finding[] {
  return present(value) && site.dims(value)[axis] === heads.length ? [{ value, label: { axis, codes: heads } }] : [];
}

/** A `[B, S, H*D]` or `[B, H, S, D]` operand. */
function perChannel(site: RuleSite, value: string | undefined, heads: Codes): Finding[] {
  if (!present(value)) return [];
  const dims = site.dims(value);
  if (dims.length === 4) return perHead(site, value, 1, heads);
  const axis = dims.length - 1;
  return [{ value, label: { axis, codes: channelsOf(heads, dims[axis] ?? 0) } }];
}

/** Query heads in groups: each group's shared code, and the group of each unit. One KV head for all stays as it is. */
function groupHeads(heads: Codes, groupCount: number): { groups: Codes; told: Omit<RuleResult, 'findings'> } {
  if (groupCount === heads.length) return { groups: heads, told: {} };
  if (groupCount === 1) return { groups: Int32Array.of(FREE), told: { sharesKeyValue: true } };
  const members = heads.length / groupCount;
  const groupOfUnit = new Int32Array(heads.length);
  heads.forEach((unit, at) => {
    if (unit < 0) throw new TraceStop('query heads are already grouped');
    groupOfUnit[unit] = Math.floor(at / members);
  });
  return { groups: Int32Array.from({ length: groupCount }, (_, group) => groupCode(group)), told: { groupOfUnit } };
}

/** com.microsoft.GroupQueryAttention, separate or packed qkv. */
export const groupQueryAttention: AxisRule = fromOutput(
  (site, heads) => {
    const { input, output } = site.node;
    const { groups, told } = groupHeads(heads, intAttribute(site.node, 'kv_num_heads', heads.length));
    const packed = !present(input[1]);
    const qkv = (): Finding[] => {
      const value = input[0] ?? '';
      const dims = site.dims(value);
      const axis = dims.length - 1;
      const headSize = (dims[axis] ?? 0) / (heads.length + 2 * groups.length);
      const width = (codes: Codes): Codes => channelsOf(codes, codes.length * headSize);
      return [{ value, label: { axis, codes: joinCodes(width(heads), width(groups), width(groups)) } }];
    };
    const findings = [
      ...(packed
        ? qkv()
        : [
            ...perChannel(site, input[0], heads),
            ...perChannel(site, input[1], groups),
            ...perChannel(site, input[2], groups),
          ]),
      ...[input[3], input[4], output[1], output[2]].flatMap((value) => perHead(site, value, 1, groups)),
      ...perHead(site, input[10], 1, heads),
      ...perHead(site, input[11], 0, heads),
    ];
    return { findings, ...told };
  },
  (site) => intAttribute(site.node, 'num_heads', 1),
);

/** com.microsoft.MultiHeadAttention with separate query, key and value. */
export const multiHeadAttention: AxisRule = fromOutput(
  (site, heads) => {
    const { input, output } = site.node;
    if (!present(input[1]) || !present(input[2]))
      throw new TraceStop('packed query, key and value in MultiHeadAttention');
    const bias = input[3];
    const width = present(bias) ? (site.dims(bias)[0] ?? 0) / 3 : 0;
    const third = width > 0 ? channelsOf(heads, width) : new Int32Array();
    return {
      findings: [
        ...input.slice(0, 3).flatMap((value) => perChannel(site, value, heads)),
        ...(present(bias) ? [{ value: bias, label: { axis: 0, codes: joinCodes(third, third, third) } }] : []),
        ...perHead(site, input[5], 1, heads),
        ...[input[6], input[7], output[1], output[2]].flatMap((value) => perHead(site, value, 1, heads)),
      ],
    };
  },
  (site) => intAttribute(site.node, 'num_heads', 1),
);

/** com.microsoft.Attention: the packed projection lies inside the node. */
export const packedAttention: AxisRule = fromOutput(
  (site, heads) => {
    const { input, output } = site.node;
    const weight = input[1] ?? '';
    const total = site.dims(weight)[1] ?? 0;
    const sizes = intsAttribute(site.node, 'qkv_hidden_sizes') ?? [total / 3, total / 3, total / 3];
    const codes = joinCodes(...sizes.map((size) => channelsOf(heads, size)));
    return {
      findings: [
        { value: weight, label: { axis: 1, codes } },
        ...(present(input[2]) ? [{ value: input[2], label: { axis: 0, codes } }] : []),
        ...[input[4], output[1]].flatMap((value) => perHead(site, value, 2, heads)),
        ...perHead(site, input[5], 1, heads),
      ],
    };
  },
  (site) => intAttribute(site.node, 'num_heads', 1),
);

/** ai.onnx Attention (opset 23), 3-D or 4-D operands. */
export const onnxAttention: AxisRule = fromOutput(
  (site, heads) => {
    const { input, output } = site.node;
    const keyDims = site.dims(input[1] ?? '');
    const groupCount = keyDims.length === 4 ? (keyDims[1] ?? 1) : intAttribute(site.node, 'kv_num_heads', heads.length);
    const { groups, told } = groupHeads(heads, groupCount);
    const maskRank = present(input[3]) ? site.dims(input[3]).length : 0;
    const findings = [
      ...perChannel(site, input[0], heads),
      ...perChannel(site, input[1], groups),
      ...perChannel(site, input[2], groups),
      ...(maskRank === 4 ? perHead(site, input[3], 1, heads) : []),
      ...[input[4], input[5], output[1], output[2]].flatMap((value) => perHead(site, value, 1, groups)),
    ];
    return { findings, ...told };
  },
  (site) => {
    const dims = site.dims(site.node.input[0] ?? '');
    return dims.length === 4 ? (dims[1] ?? 1) : intAttribute(site.node, 'q_num_heads', 1);
  },
);

/** RotaryEmbedding (contrib and ai.onnx): rotates inside heads, so whole heads carry over. */
export const rotaryEmbedding: AxisRule = (site) => {
  if (site.slot !== 0) throw new TraceStop(`channels arrive at ${site.side} ${site.slot} of a rotary embedding`);
  const other = site.side === 'input' ? site.node.output[0] : site.node.input[0];
  return { findings: [{ value: other ?? '', label: site.label }] };
};
