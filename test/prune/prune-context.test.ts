import { setTimeout as wait } from 'node:timers/promises';
import { resolveOptions } from '../../src/options.js';
import { startContext } from '../../src/prune/prune-context.js';
import { storeInMemory } from '../../src/removal/repair-linear.js';
import { createMemoryStore } from '../../src/runtime/tensor-store.js';
import { testEngine } from '../support/engine.js';
import { loadTinyLlama, someWindows } from '../support/tiny-llama.js';

it('counts the time of a step within another once, also where it fails', async () => {
  const context = startContext({
    ...(await loadTinyLlama()),
    engine: testEngine,
    windows: someWindows(1, 8),
    options: resolveOptions({ sparsity: 0.3, method: 'flap' }),
    store: storeInMemory,
    createStore: createMemoryStore,
  });
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
