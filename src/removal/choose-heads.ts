import { OptionError } from '../errors.js';
import { type Choice, chooseChannels } from './choose-channels.js';

export interface HeadChoiceInput {
  /** Importance of each query head. */
  readonly scores: ArrayLike<number>;
  /** KV head of each query head, `0..groupCount-1`. */
  readonly groupOfHead: ArrayLike<number>;
  readonly groupCount: number;
  /** Units that are removed together: a KV head with all its query heads, or one query head from every group. */
  readonly headUnit: 'group' | 'query';
  /** KV groups to remove (`group`), or query heads to remove from every group (`query`). */
  readonly removeCount: number;
}

/** A choice of query heads, and the remaining KV heads, ascending. */
export interface HeadChoice extends Choice {
  readonly keepGroups: Int32Array;
}

/**
 * Chooses the heads to remove from grouped-query attention. A KV group's importance is the sum over its query heads, which
 * are removed with it. At least one KV group, and one query head of each remaining group, is kept.
 *
 * @throws OptionError when heads name a group that does not exist, or groups differ in size.
 */
export function chooseHeads(input: HeadChoiceInput): HeadChoice {
  const { scores, groupCount, headUnit, removeCount } = input;
  const members = headsOfGroups(input);
  const headsPerGroup = members[0]?.length ?? 0;
  const allGroups = Int32Array.from({ length: groupCount }, (_, group) => group);
  if (headUnit === 'query') {
    const groups = members.map((units) => ({ units, scores: units.map((head) => scores[head]!) }));
    const perGroup = Math.min(removeCount, Math.max(0, headsPerGroup - 1));
    const choice = chooseChannels({ unitCount: scores.length, groups, removeCount: perGroup * groupCount });
    return { ...choice, overflow: (removeCount - perGroup) * groupCount, keepGroups: allGroups };
  }
  const groupScores = members.map((heads) => heads.reduce((sum, head) => sum + scores[head]!, 0));
  const groups = [{ units: allGroups, scores: groupScores }];
  const chosen = chooseChannels({ unitCount: groupCount, groups, removeCount, minimumPerGroup: 1 });
  const headsOf = (chosen: Int32Array) => Int32Array.from([...chosen].flatMap((group) => members[group]!)).sort();
  return {
    keep: headsOf(chosen.keep),
    remove: headsOf(chosen.remove),
    removedPerGroup: members.map((heads, group) => (chosen.remove.includes(group) ? heads.length : 0)),
    overflow: chosen.overflow * headsPerGroup,
    keepGroups: chosen.keep,
  };
}

function headsOfGroups({ scores, groupOfHead, groupCount }: HeadChoiceInput): number[][] {
  const members: number[][] = Array.from({ length: groupCount }, () => []);
  for (let head = 0; head < scores.length; head++) {
    const heads = members[groupOfHead[head] ?? -1];
    if (heads === undefined) {
      throw new OptionError(
        `query head ${head} belongs to KV group ${groupOfHead[head]}; groups are 0..${groupCount - 1}`,
      );
    }
    heads.push(head);
  }
  const sizes = new Set(members.map((heads) => heads.length));
  if (sizes.size > 1) throw new OptionError(`KV groups differ in size (${[...sizes].join(', ')}); expected one size`);
  return members;
}
