import { checkpoint, type Journal } from '../../src/runtime/journal.js';

/** A journal in memory, whose entries are copies, like those in files. */
function journalInMemory(shouldCheckpoint: boolean) {
  const entries = new Map<string, unknown[]>();
  const questions: unknown[][] = [];
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
      questions.push(question);
      return shouldCheckpoint;
    },
    settle: async () => undefined,
    within: () => journal,
    drop: async () => undefined,
  };
  return { journal, entries, questions };
}

const weights = new Map([['value', { batches: new Map([[0, Float32Array.of(1, 2)]]), strength: 3 }]]);
const make = async () => weights;
const never = () => Promise.reject(new Error('made again'));
const bytes = () => 8;

it('reads from the journal what an earlier run saved', async () => {
  const { journal, questions } = journalInMemory(true);
  expect(await checkpoint(journal, 'weights', { bytes, make })).toBe(weights);
  expect(questions).toEqual([[8, true]]);
  expect(await checkpoint(journal, 'weights', { bytes, make: never })).toEqual(weights);
});

it('does not save if the journal advises against it', async () => {
  const { journal, entries } = journalInMemory(false);
  expect(await checkpoint(journal, 'weights', { bytes, make })).toBe(weights);
  expect([...entries.keys()]).toEqual([]);
});

it('always saves values without a size', async () => {
  const { journal, entries } = journalInMemory(false);
  await checkpoint(journal, 'weights', { make });
  expect([...entries.keys()]).toEqual(['weights']);
});

it('saves nothing without a journal', async () => {
  expect(await checkpoint(undefined, 'weights', { make })).toBe(weights);
});
