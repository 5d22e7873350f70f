import { findCases, tryCase, WAYS, type Way } from '../scripts/exporters/try-case.js';

/** What becomes of each fixture, where it is not pruned in both ways: a refusal by name, or what the report says stays. */
const EXPECTED: Readonly<Record<string, RegExp>> = {
  't5-optimum01-fp32': /is an encoder-decoder.*choose/,
  'lfm2-genai018-fp32': /mixer: stays as it is/,
  'qwen3_moe-optimum01-fp32': /experts: stays as it is/,
  'qwen3-genai018-fp16cuda': /neither the written model nor the original run here as they are/,
};

const cases = findCases('test/fixtures/exporters');

it('there are fixtures', () => {
  expect(cases.length).toBeGreaterThanOrEqual(8);
  expect(cases.map(({ name }) => name)).toEqual(expect.arrayContaining(Object.keys(EXPECTED)));
});

describe.each(cases)('$name', (fixture) => {
  it.each(Object.keys(WAYS) as Way[])(
    'is pruned and goes on from its cache, or is refused by name: %s',
    async (way) => {
      const expected = EXPECTED[fixture.name];
      const run = await tryCase(fixture, way);
      const said = run.outcome === 'works' ? run.remarks.join('\n') : run.reason;
      expect({ ...run, said }).toMatchObject({
        outcome: /encoder-decoder/.test(String(expected)) ? 'refused' : 'works',
      });
      if (expected !== undefined && way === 'FFN and heads') expect(said).toMatch(expected);
    },
  );
});
