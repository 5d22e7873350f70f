import type { Journal } from '../../src/platform/journal.js';
import { keepingTokenWeights } from '../../src/prune/measure-dense/kept-token-weights.js';
import type { PruneContext } from '../../src/prune/prune-context.js';

/** A journal in memory, whose entries are copies as those in files are. */
function journalInMemory(shouldCheckpoint: boolean) {
  const entries = new Map<string, unknown[]>();
  const journal: Journal = {
    has: async (name) => entries.has(name),
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
    shouldCheckpoint: () => shouldCheckpoint,
    settle: async () => undefined,
    within: () => journal,
    drop: async () => undefined,
  };
  return { journal, entries };
}

const contextWith = (journal: unknown) => ({ job: { journal } }) as unknown as PruneContext;

const felt = {
  weights: new Map([['value', { batches: new Map([[0, Float32Array.of(1, 2)]]), strength: 3 }]]),
  obstacle: 'no rule',
};
const measure = async () => felt;
const never = () => Promise.reject(new Error('made again'));

it('takes from the journal what an earlier run kept', async () => {
  const { journal } = journalInMemory(true);
  expect(await keepingTokenWeights(contextWith(journal), measure)).toBe(felt);
  expect(await keepingTokenWeights(contextWith(journal), never)).toEqual(felt);
});

it('does not keep what is made again in no time', async () => {
  const { journal, entries } = journalInMemory(false);
  expect(await keepingTokenWeights(contextWith(journal), measure)).toBe(felt);
  expect([...entries.keys()]).toEqual([]);
});

it('keeps nothing without a journal', async () => {
  expect(await keepingTokenWeights(contextWith(undefined), measure)).toBe(felt);
});
