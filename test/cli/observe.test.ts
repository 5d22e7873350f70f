import { runWithDouble } from '../support/cli.js';

it('passes only given flags to the API, and prints what was saved', async () => {
  const { calls, out } = await runWithDouble('observe dense --out stats');
  const control = { onProgress: expect.any(Function), signal: expect.any(AbortSignal) };
  expect(calls).toEqual([['observe', { model: 'dense', out: 'stats', ...control }]]);
  expect(out).toBe(
    'Observed dense -> stats (auto, seed 0)\n' +
      'Gram matrices, the curvature of the loss of 12 modules on 64 windows of 128 tokens, 12.3 MB\n' +
      '1.5 s\n' +
      'folder  stats\n' +
      'next    npx fang-prune prune dense --out SMALLER --sparsity 30% --statistics stats\n',
  );
});

it('passes all flags to the API', async () => {
  const { calls } = await runWithDouble(
    'observe dense -o stats -m o-fang --metric loss --modules ffn --grouping -c cal.txt --windows 8 ' +
      '--no-generate-calibration --seed 7 --force',
  );
  expect(calls[0]?.[1]).toMatchObject({
    method: 'o-fang',
    metric: 'loss',
    modules: 'ffn',
    grouping: true,
    calibration: { source: { file: 'cal.txt' }, windowCount: 8, generate: false },
    seed: 7,
    force: true,
  });
});

it('passes --statistics of prune to the API', async () => {
  const { calls } = await runWithDouble('prune dense -o pruned -s 0.3 --statistics stats');
  expect(calls[0]).toMatchObject(['prune', { statistics: 'stats' }]);
});

it('observes a shard, and merges shards', async () => {
  const { calls } = await runWithDouble('observe dense -o 2 --shard 2/4');
  expect(calls[0]).toMatchObject(['observe', { shard: '2/4' }]);
  const { exitCode, err } = await runWithDouble('observe dense -o 2 --shard two');
  expect(exitCode).toBe(2);
  expect(err).toMatch(/--shard is "two"; expected a part of several, such as 2\/4/);
  const merged = await runWithDouble('merge 1 2 -o stats');
  expect(merged.calls[0]).toMatchObject(['mergeStatistics', { shards: ['1', '2'], out: 'stats' }]);
  expect(merged.out).toMatch(/^Merged 2 shards -> stats\n12 modules on 64 windows, 12.3 MB\n/);
});
