import { checkpoint, type Journal } from '../../src/runtime/journal.js';

/** A journal in memory, whose entries are copies as those in files are. */
function journalInMemory(shouldCheckpoint: boolean) {
  const entries = new Map<string, unknown[]>();
  const asked: unknown[][] = [];
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
      const saved: unknown[] = [];
      for await (const part of parts) saved.push(structuredClone(part));
      entries.set(name, saved);
    },
    shouldCheckpoint(...question) {
      asked.push(question);
      return shouldCheckpoint;
    },
    settle: async () => undefined,
    within: () => journal,
    drop: async () => undefined,
  };
  return { journal, entries, asked };
}

const weights = new Map([['value', { batches: new Map([[0, Float32Array.of(1, 2)]]), strength: 3 }]]);
const make = async () => weights;
const never = () => Promise.reject(new Error('made again'));
const bytes = () => 8;

it('takes from the journal what an earlier run saved', async () => {
  const { journal, asked } = journalInMemory(true);
  expect(await checkpoint(journal, 'weights', { bytes, make })).toBe(weights);
  expect(asked).toEqual([[8, true]]);
  expect(await checkpoint(journal, 'weights', { bytes, make: never })).toEqual(weights);
});

it('does not save what is made again at once', async () => {
  const { journal, entries } = journalInMemory(false);
  expect(await checkpoint(journal, 'weights', { bytes, make })).toBe(weights);
  expect([...entries.keys()]).toEqual([]);
});

it('saves what has no size in any case', async () => {
  const { journal, entries } = journalInMemory(false);
  await checkpoint(journal, 'weights', { make });
  expect([...entries.keys()]).toEqual(['weights']);
});

it('saves nothing without a journal', async () => {
  expect(await checkpoint(undefined, 'weights', { make })).toBe(weights);
});
