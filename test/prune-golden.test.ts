import { readFileSync } from 'node:fs';
import { collectStatistics } from '../src/activations/collect-statistics.js';
import type { ModuleKind } from '../src/architecture/layout.js';
import type { ChannelStatistics } from '../src/compensation/adapter.js';
import type { PruneOutcome } from '../src/prune/job.js';
import { createBlockRunner, makeBatches } from '../src/runtime/block-runner.js';
import { createMemoryStore } from '../src/runtime/tensor-store.js';
import { testEngine } from './support/engine.js';
import { addedBias } from './support/masked.js';
import { type Loaded, loadTinyLlama, pruneLoaded } from './support/tiny-llama.js';

// Extracted by scripts/extract-golden-run.ts (`madeBy` in the file) from an independent float64 implementation.
const fixture = JSON.parse(readFileSync('test/fixtures/golden-flap-run.json', 'utf8'));
const floats = (name: string) => new Float32Array(new Uint8Array(Buffer.from(fixture[name], 'base64')).buffer);
const windows = Array.from({ length: 8 }, (_, row) =>
  Int32Array.from(fixture.tokens.slice(row * 128, (row + 1) * 128)),
);

const BLOCKS = [0, 1, 2, 3, 4, 5];
let loaded: Loaded;
beforeAll(async () => {
  loaded = await loadTinyLlama();
});

/** Largest difference of one block, relative to the block's largest number. */
function blockError(actual: ArrayLike<number>, expected: Float32Array, block: number): number {
  const wanted = expected.subarray(block * actual.length, (block + 1) * actual.length);
  const largest = wanted.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  return wanted.reduce((worst, value, at) => Math.max(worst, Math.abs(value - actual[at]!)), 0) / largest;
}

describe('the dense model', () => {
  const measured = new Map<string, ChannelStatistics>();
  beforeAll(async () => {
    const { detected, facts, tokenInput } = loaded.analysed;
    const runner = createBlockRunner({
      engine: testEngine,
      model: loaded.model,
      cuts: detected.partition.cuts,
      facts,
      tokenInput,
      batches: makeBatches(windows, 4),
      states: createMemoryStore(),
    });
    await runner.advance();
    for (const segment of detected.layout.segments) {
      const modules = segment.modules.map((at) => detected.layout.modules[at]!);
      const targets = modules.map(({ output }) => ({
        linear: output,
        needs: 'moments' as const,
        groups: [Int32Array.from({ length: output.inputCount }, (_, channel) => channel)],
      }));
      const statistics = await collectStatistics(runner, { targets });
      modules.forEach(({ kind, block }, at) => {
        measured.set(`${kind} ${block}`, statistics[at]![0]!);
      });
      if (segment !== detected.layout.segments.at(-1)) await runner.advance();
    }
    await runner.dispose();
  });

  const kinds: readonly ModuleKind[] = ['ffn', 'attention'];
  it.each(kinds.flatMap((kind) => BLOCKS.map((block) => [kind, block] as const)))(
    'has the moments of an independent float64 computation in %s %d',
    (kind, block) => {
      const { tokenCount, mean, variance } = measured.get(`${kind} ${block}`)!;
      expect(tokenCount).toBe(1024);
      expect(blockError(mean, floats(`${kind}Mean`), block)).toBeLessThan(1e-5);
      expect(blockError(variance, floats(`${kind}Variance`), block)).toBeLessThan(1e-5);
    },
  );
});

describe('FLAP at sparsity 0.3, FFN only', () => {
  let outcome: PruneOutcome;
  beforeAll(async () => {
    outcome = await pruneLoaded(loaded, { sparsity: 0.3, modules: 'ffn', method: 'flap' }, { windows });
  });

  it.each(BLOCKS)('keeps the reference neurons and adds the reference bias in block %d', async (block) => {
    const cut = outcome.modules[block]!;
    expect([...cut.keep]).toEqual(fixture.keep[block]);
    expect(blockError(Float64Array.from(await addedBias(outcome, cut)), floats('bias'), block)).toBeLessThan(1e-5);
  });
});
