import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { applyRecipe, heal, mergeStatistics, observe, prune, pruneLadder, quantize } from '../../src/node.js';
import { hashesOf, useTemporaryFolder } from '../support/temporary-folder.js';

const folder = useTemporaryFolder();
const at = (path: string) => join(folder(), path);

const MODEL = 'test/fixtures/exporters/llama-genai018-fp32';
const source = { tokens: Array.from({ length: 64 }, (_, token) => token) };
const calibration = { windowCount: 2, windowLength: 16, source };
const COMMON = { model: MODEL, certify: false, evaluation: false, calibration };
const pruning = (sparsity: number) => (out: string, force: boolean) =>
  prune({ ...COMMON, out, force, sparsity, method: 'flap' });

type Call = (out: string, force: boolean) => Promise<unknown>;

const { model } = COMMON;
/** Two calls that write to one output. */
const PAIRS: Readonly<
  Record<
    string,
    (made: { readonly recipe: string; readonly pruned: string; readonly shards: string }) => readonly [Call, Call]
  >
> = {
  'prune and prune': () => [pruning(0.3), pruning(0.5)],
  'the same prune twice': () => [pruning(0.3), pruning(0.3)],
  'ladder and quantize': () => [
    (out, force) => pruneLadder({ ...COMMON, out, force, sparsity: [0.1, 0.4], method: 'flap' }),
    (out, force) => quantize({ model, certify: false, evaluation: false, out, force, dtype: 'fp16' }),
  ],
  'observe and observe': () => [
    (out, force) => observe({ model, calibration, out, force, method: 'flap' }),
    (out, force) => observe({ model, calibration, out, force, method: 'obc' }),
  ],
  'merge and merge': ({ shards }) => [
    (out, force) => mergeStatistics({ shards: [`${shards}-flap`], out, force }),
    (out, force) => mergeStatistics({ shards: [`${shards}-obc`], out, force }),
  ],
  'apply and heal': ({ recipe, pruned }) => [
    (out, force) => applyRecipe({ model, recipe, out, force }),
    (out, force) =>
      heal({
        dense: model,
        pruned,
        out,
        force,
        heal: { windowCount: 2, share: 0 },
        calibration: { windowLength: 16, source },
      }),
  ],
};

it.each(Object.keys(PAIRS))(
  'writes the whole result of one of two concurrent calls; the other may throw a typed error (%s)',
  async (name) => {
    const made = { recipe: at('recipe'), pruned: at('pruned'), shards: at('shard') };
    for (const method of name === 'merge and merge' ? ['flap', 'obc'] : [])
      await observe({ model, calibration, method, shard: '1/1', out: `${made.shards}-${method}` });
    if (name === 'apply and heal')
      await prune({ ...COMMON, sparsity: 0.3, method: 'flap', out: made.pruned, recipe: made.recipe });
    const calls = PAIRS[name]!(made);
    const whole: string[] = [];
    for (const [index, call] of calls.entries()) {
      await call(at(`whole-${index}/x`), false);
      whole.push(JSON.stringify(await hashesOf(at(`whole-${index}`))));
    }
    for (const [round, delayMs] of [0, 0, 15, 60].entries()) {
      const place = at(`pair-${round}`);
      const ends = await Promise.allSettled(
        calls.map(async (call, index) => {
          if (index === 1) await setTimeout(delayMs);
          await call(join(place, 'x'), round % 2 === 1);
        }),
      );
      for (const end of ends) if (end.status === 'rejected') expect(end.reason).toMatchObject({ code: 'ERR_OPTION' });
      const done = whole.filter((_, index) => ends[index]!.status === 'fulfilled');
      expect(done).not.toEqual([]);
      expect(done).toContain(JSON.stringify(await hashesOf(place)));
      expect(await readdir(place)).toEqual(['x']);
    }
  },
  120_000,
);
