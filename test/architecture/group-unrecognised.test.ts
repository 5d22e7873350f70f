import { groupUnrecognised } from '../../src/architecture/group-unrecognised.js';
import type { Unrecognised } from '../../src/architecture/layout.js';

const found = (block: number, part: Partial<Unrecognised> = {}): Unrecognised => ({
  block,
  kind: 'ffn',
  node: `TopK "block.${block}"`,
  opType: 'TopK',
  reason: `it routes "block.${block}" to experts`,
  nearest: 'ffn',
  ...part,
});

it('joins parts that differ only in block and node names', () => {
  const groups = groupUnrecognised([
    found(0),
    found(1),
    found(1, { kind: 'attention', reason: 'normalised together' }),
    found(2),
    found(2),
    found(5),
    found(6, { kind: 'unknown' }),
  ]);
  expect(groups.map(({ name }) => name)).toEqual(['blocks 0-2, 5 ffn', 'block 1 attention', 'block 6 (unknown part)']);
  expect(groups[0]).toMatchObject({ first: found(0), blocks: [0, 1, 2, 5] });
});
