import type { Journal } from '../../src/platform/journal.js';
import type { PruneContext } from '../../src/prune/prune-context.js';
import type { ChosenCodes } from '../../src/prune/quantise/choose-codes.js';
import { keepingSegment, keepingTokenWeights } from '../../src/prune/quantise/kept-codes.js';
import { roundToNearest } from '../../src/quantisation/block-codes.js';

/** A journal in memory, whose entries are copies as those in files are. */
function journalInMemory(isDue: boolean) {
  const entries = new Map<string, unknown[]>();
  const journal: Journal = {
    async read(name) {
      const found = entries.get(name);
      return (
        found &&
        (async function* () {
          yield* found;
        })()
      );
    },
    async write(name, parts) {
      const kept: unknown[] = [];
      for await (const part of parts) kept.push(structuredClone(part));
      entries.set(name, kept);
    },
    isDue: () => isDue,
    within: () => journal,
  };
  return { journal, entries };
}

const contextWith = (journal: unknown) => ({ job: { journal } }) as unknown as PruneContext;

const grid = { bits: 4, blockSize: 16, hasZeroPoints: true, scaleType: 'float32' } as const;
const codes = roundToNearest(
  Float32Array.from({ length: 32 }, (_, at) => at),
  { grid, outCount: 2, inCount: 16 },
);
const rounded: ChosenCodes[] = [{ codes, chosen: { dampening: 0.1, cost: 1 }, nearest: { cost: 2 } }];
const never = () => Promise.reject(new Error('made again'));

it('takes from the journal what an earlier run kept', async () => {
  const { journal } = journalInMemory(true);
  const context = contextWith(journal);
  const weights = new Map([['value', new Map([[0, Float32Array.of(1, 2)]])]]);
  expect(await keepingTokenWeights(context, async () => weights)).toBe(weights);
  expect(await keepingSegment(context, 3, async () => rounded)).toBe(rounded);
  expect(await keepingTokenWeights(context, never)).toEqual(weights);
  expect(await keepingSegment(context, 3, never)).toEqual(rounded);
  await expect(keepingSegment(context, 4, never)).rejects.toThrow('made again');
});

it('does not keep what is made again in no time', async () => {
  const { journal, entries } = journalInMemory(false);
  await keepingSegment(contextWith(journal), 3, async () => rounded);
  expect([...entries.keys()]).toEqual([]);
});

it('keeps nothing without a journal', async () => {
  expect(await keepingSegment(contextWith(undefined), 3, async () => rounded)).toBe(rounded);
});
