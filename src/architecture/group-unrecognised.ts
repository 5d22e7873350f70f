import type { Unrecognised } from './layout.js';

/** Equal parts of several blocks that cannot be pruned for the same reason. */
export interface UnrecognisedKind {
  /** The first of them. */
  readonly first: Unrecognised;
  /** Blocks, ascending. */
  readonly blocks: readonly number[];
  /** `block 3 ffn`, `blocks 0-5, 7 attention`. */
  readonly name: string;
}

/** Groups parts that differ only in their block, so that many blocks take one line. */
export function groupUnrecognised(unrecognised: readonly Unrecognised[]): UnrecognisedKind[] {
  const groups = new Map<string, { readonly first: Unrecognised; readonly blocks: number[] }>();
  for (const found of unrecognised) {
    // Reasons may quote names of nodes and values, which differ from block to block.
    const key = [found.kind, found.opType, found.reason.replaceAll(/"[^"]*"/g, '')].join('\n');
    const group = groups.get(key);
    if (group === undefined) groups.set(key, { first: found, blocks: [found.block] });
    else if (!group.blocks.includes(found.block)) group.blocks.push(found.block);
  }
  return [...groups.values()].map(({ first, blocks }) => {
    const kind = first.kind === 'unknown' ? '(unknown part)' : first.kind;
    return { first, blocks, name: `${nameBlocks(blocks)} ${kind}` };
  });
}

/** `block 3`, `blocks 0-5, 7`. */
export function nameBlocks(blocks: readonly number[]): string {
  const runs: { first: number; last: number }[] = [];
  for (const block of blocks) {
    const run = runs.at(-1);
    if (run?.last === block - 1) run.last = block;
    else runs.push({ first: block, last: block });
  }
  const names = runs.map(({ first, last }) => (first === last ? `${first}` : `${first}-${last}`));
  return `${blocks.length === 1 ? 'block' : 'blocks'} ${names.join(', ')}`;
}
