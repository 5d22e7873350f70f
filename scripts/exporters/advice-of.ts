import type { PruneOptions } from '../../src/options.js';

/** Messages without advice for the call: they ask for another model, or another export. */
const ABOUT_THE_MODEL =
  /choose a decoder-only|choose one of those|cannot be pruned, only|export (it|them)|lists all parts and why they stay|there is no embedding model next to it/;

/** Changes of a call's options. */
type Change = Partial<PruneOptions>;

/** Advice by its words, and the options that follow it. */
const ADVICE: readonly (readonly [RegExp, (found: RegExpMatchArray) => readonly Change[]])[] = [
  [/choose modules "(\w+)"/g, ([, kind]) => [{ modules: kind as NonNullable<PruneOptions['modules']> }]],
  [/name no modules,/g, () => [{ modules: undefined }]],
  [/name no modules and set perBlockKvHeads/g, () => [{ modules: undefined, perBlockKvHeads: true }]],
  [/(?<!and )set perBlockKvHeads/g, () => [{ perBlockKvHeads: true }]],
  [/leave single kinds out of blockSparsity|blockSparsity.*leave it out/g, () => [{ blockSparsity: undefined }]],
  [/lower the sparsity to ([\d.]+)/g, ([, fraction]) => [{ sparsity: Number(fraction) }]],
  [
    /at most ([\d.]+) % can be removed.*lower the sparsity/g,
    ([, most]) => [{ sparsity: Math.floor(Number(most)) / 100 }],
  ],
  [/expected at most (\d+), the width/g, ([, width]) => [{ widthMultiple: Math.floor(Number(width) / 2) }]],
  [/[Pp]rune without healing/g, () => [{ heal: undefined }]],
  [/set metric: 'output'/g, () => [{ metric: 'output' }]],
  [/prune in one shot/g, () => [{ shots: 1 }]],
  [
    /leave out what needs gradients/g,
    () => [{ metric: undefined, gradientPower: undefined, allocation: undefined, grouping: undefined, method: 'auto' }],
  ],
  [
    /use the method ([\w, ]+)$/g,
    ([, names = '']) =>
      names
        .split(/, | or /)
        .map((method) => ({ method, metric: undefined, gradientPower: undefined, allocation: undefined }) as Change),
  ],
];

/**
 * Options that follow the advice of a message, one by one; empty if the advice is about the model only.
 * @throws Error for a message without known advice.
 */
export function adviceOf(message: string): readonly Change[] {
  const changes = ADVICE.flatMap(([words, follow]) => [...message.matchAll(words)].flatMap(follow));
  if (changes.length === 0 && !ABOUT_THE_MODEL.test(message)) throw new Error(`no advice that is known: ${message}`);
  return changes;
}
