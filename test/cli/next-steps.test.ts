import { PRUNE_REPORT, runWithDouble } from '../support/cli.js';

it.each([
  ['shrink -s 60MB --out -small -- -dense', { models: ['./-dense', './-small'] }],
  ['quantize --dtype q8 --out -small dense', { models: ['dense', './-small'] }],
  ['prune -s 0.3 --out -small -- -dense', { models: ['./-dense', './-small'], reference: './-dense' }],
  ['prune -s 0.3,0.4 --out -small -- -dense', { models: ['./-dense', './-small/30', './-small/40'] }],
  ['heal --out -healed -- -dense -small', { models: ['./-dense', './-small', './-healed'] }],
  ['trim-vocabulary --vocabulary-size 9 --out -small -- -dense', { models: ['./-dense', './-small'] }],
  ['apply --out -small -- recipe -dense', { models: ['./-dense', './-small'] }],
  ['observe --out -seen -- -dense', { model: './-dense', statistics: './-seen' }],
  ['merge --out -seen 1 2', { statistics: './-seen' }],
])(
  'suggests a command in which folders that begin with a dash are no flags, after %s',
  async (commandLine, request) => {
    const { out } = await runWithDouble(commandLine, {
      prune: async ({ model, out }) => ({ ...PRUNE_REPORT, model, ...(out !== undefined && { out }) }),
      pruneLadder: async ({ model, out, sparsity }) =>
        sparsity.map((each) => ({ ...PRUNE_REPORT, model, out: `${out}/${100 * Number(each)}` })),
    });
    const [, next = ''] = /^next {4}npx fang-prune (.*)$/m.exec(out) ?? [];
    const { calls, err } = await runWithDouble(next);
    expect(err).toBe('');
    expect(calls[0]?.[1]).toMatchObject(request);
  },
);
