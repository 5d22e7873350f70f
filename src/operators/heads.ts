import { findAttribute, intAttribute, setIntAttribute } from '../onnx/attributes.js';
import {
  type AxisRule,
  type Finding,
  groupId,
  NeedCoarserUnits,
  NO_UNIT,
  type RuleResult,
  type RuleSite,
  TraceStop,
  type UnitIds,
} from './axis-rule.js';
import type { Cache } from './operator.js';
import type { UpdateRule } from './update-rule.js';

const countHeads = ({ node }: RuleSite): number => intAttribute(node, 'num_heads', 1);

/**
 * Fused attention: labels of the output are propagated by head to every operand with a head axis. Labels of operands
 * came from that output.
 */
export const fromOutput =
  (spread: (site: RuleSite, unitOfHead: UnitIds) => RuleResult, headCount = countHeads): AxisRule =>
  (site) => {
    if (site.side === 'input' || site.slot !== 0) return { findings: [] };
    return spread(site, unitPerHead(site, headCount(site)));
  };

/** Code of each head on the output's channel axis; every head must be one unit. */
function unitPerHead(site: RuleSite, headCount: number): UnitIds {
  const { axis, unitIds } = site.label;
  const rank = site.dims(site.node.output[0] ?? '').length;
  if (rank === 4 && axis === 1) return unitIds;
  if (axis !== rank - 1) throw new TraceStop('channels are not on the head axis of the attention');
  const headSize = unitIds.length / headCount;
  const heads = Int32Array.from({ length: headCount }, (_, head) => unitIds[head * headSize] ?? 0);
  const isPerHead = unitIds.every((code, at) => code === heads[Math.floor(at / headSize)]);
  if (!isPerHead || new Set(heads).size !== heads.length) throw new NeedCoarserUnits(headCount);
  return heads;
}

/** Repeats each head's code over its channels. */
export const channelsOf = (heads: UnitIds, width: number): UnitIds => {
  const headSize = width / heads.length;
  return Int32Array.from({ length: width }, (_, at) => heads[Math.floor(at / headSize)] ?? 0);
};

export const joinUnitIds = (...parts: readonly UnitIds[]): UnitIds =>
  Int32Array.from(parts.flatMap((part) => [...part]));

export const isPresent = (value: string | undefined): value is string => value !== undefined && value !== '';

/** Operand with one entry per head along `axis`; size 1 is shared by all heads and has no label. */
export function perHead(site: RuleSite, value: string | undefined, axis: number, heads: UnitIds): Finding[] {
  return isPresent(value) && site.dims(value)[axis] === heads.length
    ? [{ value, label: { axis, unitIds: heads } }]
    : [];
}

/** A `[B, S, H*D]` or `[B, H, S, D]` operand. */
export function perChannel(site: RuleSite, value: string | undefined, heads: UnitIds): Finding[] {
  if (!isPresent(value)) return [];
  const dims = site.dims(value);
  if (dims.length === 4) return perHead(site, value, 1, heads);
  const axis = dims.length - 1;
  return [{ value, label: { axis, unitIds: channelsOf(heads, dims[axis] ?? 0) } }];
}

/** Codes of KV heads for some query heads, and how query heads share them. A single KV head for all is not labelled. */
export function groupHeads(
  heads: UnitIds,
  groupCount: number,
): { groups: UnitIds; sharing: Omit<RuleResult, 'findings'> } {
  if (groupCount === heads.length) return { groups: heads, sharing: {} };
  if (groupCount === 1) return { groups: Int32Array.of(NO_UNIT), sharing: { sharesKeyValue: true } };
  const members = heads.length / groupCount;
  const groupOfUnit = new Int32Array(heads.length);
  heads.forEach((unit, at) => {
    if (unit < 0) throw new TraceStop('query heads are already grouped');
    groupOfUnit[unit] = Math.floor(at / members);
  });
  return { groups: Int32Array.from({ length: groupCount }, (_, group) => groupId(group)), sharing: { groupOfUnit } };
}

/** Past and present keys and values. */
export const perCache = (site: RuleSite, { past, present, headAxis }: Cache, heads: UnitIds): Finding[] =>
  [...past.map((slot) => site.node.input[slot]), ...present.map((slot) => site.node.output[slot])].flatMap((value) =>
    perHead(site, value, headAxis, heads),
  );

/** Head counts of a fused attention: query heads are the units; KV heads their groups, or one per unit, or one for all. */
export const updateHeadCounts =
  (queryAttribute: string, kvAttribute?: string): UpdateRule =>
  ({ node, unitCount, groupCount, isGrouped }) => {
    if (kvAttribute !== undefined && findAttribute(node, kvAttribute)) {
      const isShared = !isGrouped && intAttribute(node, kvAttribute, 1) === 1;
      if (!isShared) setIntAttribute(node, kvAttribute, groupCount);
    }
    if (findAttribute(node, queryAttribute)) setIntAttribute(node, queryAttribute, unitCount);
  };
