import { EVAL } from '../../src/cli/eval.js';
import * as commands from '../../src/options/commands.js';
import { type Families, listRows, rowsOf } from '../../src/options/option.js';

/** The options of all calls by the long name of their flag. */
function optionsByFlag(): Map<string, Set<string>> {
  const found = new Map<string, Set<string>>();
  const calls: readonly Families[] = [...Object.values(commands), EVAL];
  for (const { path, row } of calls.flatMap((families) => listRows(rowsOf(families)))) {
    const flag = row.flag?.match(/--[a-z-]+/)?.[0];
    if (flag === undefined) continue;
    found.set(flag, (found.get(flag) ?? new Set()).add(path));
  }
  return found;
}

it('names a text file `text` and several `texts` in every call', () => {
  expect([...optionsByFlag().get('--text')!].sort()).toEqual(['evaluation.texts', 'text', 'texts']);
  expect(listRows(rowsOf(commands.PERPLEXITY)).map(({ path }) => path)).toEqual(
    expect.arrayContaining(['text', 'content']),
  );
});

it('places the settings of healing in `heal` in every call', () => {
  const settings = [...optionsByFlag()].filter(([flag]) => flag.startsWith('--heal-'));
  expect(settings.length).toBeGreaterThan(5);
  for (const [, paths] of settings) expect([...paths]).toEqual([expect.stringMatching(/^heal\.\w+$/)]);
});
