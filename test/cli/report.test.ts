import { runWithDouble } from '../support/cli.js';

it('passes on what was said and names what was written', async () => {
  const { calls, out } = await runWithDouble('report pruned --add eval.json -a bias.json --out page.json');
  expect(calls).toEqual([['rebuildReport', { report: 'pruned', add: ['eval.json', 'bias.json'], out: 'page.json' }]]);
  expect(out).toBe('Wrote a.json\nWrote a.html\n');
});

it('passes on only what was said', async () => {
  expect((await runWithDouble('report pruned')).calls).toEqual([['rebuildReport', { report: 'pruned' }]]);
});
