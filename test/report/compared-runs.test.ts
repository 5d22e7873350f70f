import { OptionError } from '../../src/errors.js';
import { addComparedRuns, comparedRunRows } from '../../src/report/compared-runs.js';
import type { MetricReport, PruneReport } from '../../src/report/report-schema.js';
import { PRUNE_REPORT } from '../support/cli.js';

const protocol = { tokensSha256: 'ab', windowLength: 512, stride: 512, windowCount: 1, tokenCount: 511 };
const perplexity = (pruned: number, own: Partial<MetricReport['protocol']> = {}): MetricReport => ({
  kind: 'perplexity',
  name: 'a.txt',
  pruned,
  better: 'lower',
  protocol: { ...protocol, ...own },
});
const run = (out: string, method: string, metrics: readonly MetricReport[]): PruneReport => ({
  ...PRUNE_REPORT,
  out,
  method,
  metrics,
});

it('has one row for perplexities of the same protocol', () => {
  const { beside } = addComparedRuns({ name: 'a/one', report: run('one', 'flap', [perplexity(20)]) }, [
    { name: 'two.json', report: run('two', 'auto', [perplexity(15)]) },
    { name: 'three', report: run('three', 'obc', [perplexity(11, { windowLength: 64 })]) },
    { name: 'four', report: run('four', 'obc', []) },
  ]);
  expect(beside!.map(({ name, method }) => `${name} ${method}`)).toEqual([
    'one flap',
    'two auto',
    'three obc',
    'four obc',
  ]);
  const rows = comparedRunRows(beside!, ({ pruned }) => String(pruned));
  expect(rows.at(-1)).toEqual({ name: 'perplexity, a.txt', cells: ['20', '15', 'measured otherwise', ''] });
  expect(rows.map(({ name }) => name)).toEqual(['method', 'removed', 'parameters', 'file size', 'perplexity, a.txt']);
});

it.each([{ tokensSha256: 'cd' }, { stride: 64 }, { leadingTokens: [1] }])(
  'does not compare perplexities with %j',
  (other) => {
    const { beside } = addComparedRuns({ name: 'one', report: run('one', 'flap', [perplexity(20)]) }, [
      { name: 'two', report: run('two', 'auto', [perplexity(15, other)]) },
    ]);
    expect(comparedRunRows(beside!, ({ pruned }) => String(pruned)).at(-1)!.cells).toEqual([
      '20',
      'measured otherwise',
    ]);
  },
);

it('refuses runs of another model', () => {
  const report = { ...PRUNE_REPORT, parameters: { before: 5, after: 4 } };
  const own = { name: 'own', report: PRUNE_REPORT };
  expect(() => addComparedRuns(own, [{ name: 'other', report }])).toThrow(OptionError);
});

it('adds folders to the names of runs that have the same name', () => {
  const [flap, auto] = ['flap', 'auto'].map((method) => ({ name: `${method}/30`, report: run('30', method, []) }));
  expect(addComparedRuns(flap!, [auto!]).beside!.map(({ name }) => name)).toEqual(['flap/30', 'auto/30']);
});
