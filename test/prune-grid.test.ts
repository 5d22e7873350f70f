import { ALLOCATIONS } from '../src/allocation/allocations.js';
import { METHODS, type MethodName } from '../src/compensation/methods.js';
import { OptionError } from '../src/errors.js';
import { METRICS } from '../src/importance/metrics.js';
import { type PruneOptions, readsTokens, resolveOptions } from '../src/options.js';
import type { PruneOutcome } from '../src/prune/job.js';
import { buildDecoder, VOCABULARY } from './support/small-decoder.js';
import { type Loaded, loadTinyLlama, meanLoss, pruneLoaded, someWindows } from './support/tiny-llama.js';

let loaded: Loaded;
beforeAll(async () => {
  loaded = await loadTinyLlama(buildDecoder());
});

const windowsOf = (count: number, length: number) =>
  someWindows(count, length).map((window) => window.map((token) => token % VOCABULARY!));

const namesOf = <T extends object>(table: T) => Object.keys(table) as (keyof T & string)[];
/** Methods that read no tokens themselves, though a metric or an allocation may. */
const methods: MethodName[] = namesOf(METHODS).filter((name) => METHODS[name].needs === 'none');
const cases = methods.flatMap((method) =>
  namesOf(METRICS).flatMap((metric) => namesOf(ALLOCATIONS).map((allocation) => [method, metric, allocation] as const)),
);

async function expectFinite({ dense, model, modules }: PruneOutcome): Promise<void> {
  const orders = [...(dense.orders?.values() ?? [])].flatMap(({ scores, costs }) => [...scores, ...costs]);
  const measured = [...(dense.blockChange ?? []), ...(dense.sensitivity ?? []), ...orders];
  const errors = modules.flatMap(({ error }) => Object.values(error ?? {}));
  expect([...measured, ...errors].filter((value) => !Number.isFinite(value))).toEqual([]);
  expect(modules.length).toBeGreaterThan(0);
  expect(await meanLoss(model, windowsOf(1, 8))).toBeLessThan(20);
}

describe.each(cases)('%s by metric %s and allocation %s', (method, metric, allocation) => {
  const options: PruneOptions = { sparsity: 0.3, method, metric, allocation };

  it('prunes with finite numbers', async () => {
    await expectFinite(await pruneLoaded(loaded, options, { windows: windowsOf(2, 16) }));
  });

  it('prunes without windows, or is refused if it reads tokens', async () => {
    const pruning = pruneLoaded(loaded, options, { windows: [] });
    if (!readsTokens(resolveOptions(options))) return expectFinite(await pruning);
    await expect(pruning).rejects.toThrow(OptionError);
    await expect(pruning).rejects.toThrow(/reads tokens, but there are no windows/);
  });
});
