import { addComparedRuns } from '../../src/report/compared-runs.js';
import { PRUNE_REPORT, runWithDouble } from '../support/cli.js';

const control = { onProgress: expect.any(Function), signal: expect.any(AbortSignal) };

it('passes its flags to the API, and prints the written files', async () => {
  const { calls, out } = await runWithDouble('report pruned --add eval.json -a bias.json --out page.json');
  expect(calls).toEqual([
    ['rebuildReport', { report: 'pruned', add: ['eval.json', 'bias.json'], out: 'page.json', ...control }],
  ]);
  expect(out).toBe('Wrote a.json\nWrote a.html\n');
});

it('passes only given flags to the API', async () => {
  expect((await runWithDouble('report pruned')).calls).toEqual([['rebuildReport', { report: 'pruned', ...control }]]);
});

it('prints runs side by side', async () => {
  const report = addComparedRuns({ name: 'runs', report: PRUNE_REPORT }, [
    { name: 'other', report: { ...PRUNE_REPORT, out: 'other', method: 'auto' } },
  ]);
  const rebuildReport = async () => ({ report, files: ['a.json'] });
  const { calls, out } = await runWithDouble('report pruned --beside other', { rebuildReport });
  expect(calls).toEqual([['rebuildReport', { report: 'pruned', beside: ['other'], ...control }]]);
  expect(out).toContain('                 pruned         other\nmethod      flap, seed 0  auto, seed 0\n');
  expect(out).toMatch(/\nWrote a\.json\n$/);
});
