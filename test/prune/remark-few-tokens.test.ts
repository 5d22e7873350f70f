import { resolveOptions } from '../../src/options.js';
import type { PruneJob, PruneOutcome } from '../../src/prune/job.js';
import { remarkFewTokens } from '../../src/prune/remark-few-tokens.js';

const modules = [512, 128].map((inputCount) => ({ module: { output: { inputCount } } }));
const outcome = { modules } as unknown as PruneOutcome;
const remark = (method: string, windowCount: number) =>
  remarkFewTokens(
    {
      windows: Array.from({ length: windowCount }, () => new Int32Array(100)),
      options: resolveOptions({ method, sparsity: 0.3 }),
    } as unknown as PruneJob,
    outcome,
  );

it('remarks few tokens per channel for methods that solve least squares', () => {
  expect(remark('obc', 5)).toEqual([
    'calibrated on 500 tokens, 1.0 for each of the 512 inputs of the widest linear layer; obc solves least squares over these inputs and needs at least 8 for ' +
      'each: use 41 windows or more',
  ]);
  expect(remark('auto', 40)).toHaveLength(1);
  expect(remark('auto', 41)).toEqual([]);
});

it('gives no remark for other methods, or for runs without tokens', () => {
  expect(remark('flap', 5)).toEqual([]);
  expect(remark('obc', 0)).toEqual([]);
});
