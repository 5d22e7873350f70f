import { findCases, tryCase, WAYS, type Way } from '../scripts/exporters/try-case.js';

interface Expected {
  /** Default `works`. */
  readonly outcome?: 'refused';
  /** Whether ONNX Runtime runs what was written. Default true. */
  readonly opened?: false;
  /** Why it is refused, or what the report remarks. */
  readonly said: RegExp;
}

/** Fixtures of which there is something to say. */
const EXPECTED: Readonly<Record<string, Expected>> = {
  't5-optimum01-fp32': { outcome: 'refused', said: /is an encoder-decoder.*choose/ },
  'lfm2-genai018-fp32': { said: /mixer: stays as it is/ },
  'qwen3_moe-optimum01-fp32': { said: /experts: stays as it is/ },
  'qwen3-genai018-fp16cuda': { opened: false, said: /neither the written model nor the original runs here/ },
};

const cases = findCases('test/fixtures/exporters');

it('there are fixtures', () => {
  expect(cases.length).toBeGreaterThanOrEqual(8);
  expect(cases.map(({ name }) => name)).toEqual(expect.arrayContaining(Object.keys(EXPECTED)));
});

describe.each(cases)('$name', (fixture) => {
  const { outcome = 'works', opened = true, said = /^/ } = EXPECTED[fixture.name] ?? {};

  it.each(Object.keys(WAYS) as Way[])(
    'is pruned and resumes from its cache, or is refused by name: %s',
    async (way) => {
      const run = await tryCase(fixture, way);
      expect(run).toMatchObject(outcome === 'works' ? { outcome, opened } : { outcome });
      const message = run.outcome === 'works' ? run.remarks.join('\n') : run.reason;
      expect(message).toMatch(way === 'FFN and heads' ? said : /^/);
    },
    120_000,
  );
});
