import { setTimeout as wait } from 'node:timers/promises';
import { resolveOptions } from '../../src/options.js';
import { startContext } from '../../src/prune/prune-context.js';
import { openSegmentCheckpoint } from '../../src/prune/segment-checkpoint.js';
import { storeInMemory } from '../../src/removal/repair-linear.js';
import type { Journal, Parts } from '../../src/runtime/journal.js';
import { createMemoryStore } from '../../src/runtime/tensor-store.js';
import { testEngine } from '../support/engine.js';
import { loadTinyLlama, someWindows } from '../support/tiny-llama.js';

const startTiny = async (journal?: Journal) =>
  startContext({
    ...(await loadTinyLlama()),
    engine: testEngine,
    windows: someWindows(1, 8),
    options: resolveOptions({ sparsity: 0.3, method: 'flap' }),
    store: storeInMemory,
    createStore: createMemoryStore,
    journal,
  });

it('continues random numbers, progress and remarks after the checkpoint of a segment', async () => {
  const entries = new Map<string, unknown[]>();
  const journal = {
    has: async (name: string) => entries.has(name),
    read: async (name: string) => entries.get(name),
    async write(name: string, parts: Parts) {
      const saved: unknown[] = [];
      for await (const part of parts) saved.push(part);
      entries.set(name, saved);
    },
    shouldCheckpoint: () => true,
  } as unknown as Journal;
  const first = await startTiny(journal);
  first.begin('prune', 2, 2);
  first.startPart(1);
  for (let count = 0; count < 3; count += 1) first.random();
  first.remarks.push('a remark of block 0');
  await (await openSegmentCheckpoint(first)).saveIfNeeded(1, undefined);
  const resumed = await startTiny(journal);
  const checkpoint = await openSegmentCheckpoint(resumed);
  await checkpoint.restore(undefined);
  expect(checkpoint.start).toBe(1);
  expect(resumed.place()).toEqual({ drawn: 3, ticks: 2 });
  expect(resumed.remarks).toEqual(first.remarks);
  expect([resumed.random(), resumed.random()]).toEqual([first.random(), first.random()]);
  await Promise.all([first.dispose(), resumed.dispose()]);
});

it('counts the time of a step within another once, also where it fails', async () => {
  const context = await startTiny();
  const start = performance.now();
  await context.timed('outer', async () => {
    await context.timed('inner', () => wait(40));
    await context
      .timed('inner', async () => wait(40).then(() => Promise.reject(new Error('no'))))
      .catch(() => undefined);
    await wait(5);
  });
  const elapsed = performance.now() - start;
  const stages = context.timings();
  await context.dispose();
  expect(stages.map(({ stage }) => stage).sort()).toEqual(['inner', 'outer']);
  const sum = stages.reduce((total, { ms }) => total + ms, 0);
  expect(sum).toBeGreaterThan(75);
  expect(sum).toBeLessThanOrEqual(elapsed);
});
