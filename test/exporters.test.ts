import { findCases, tryCase, WAYS, type Way } from '../scripts/exporters/try-case.js';

interface Expected {
  /** Default `works`. */
  readonly outcome?: 'refused';
  /** Whether ONNX Runtime runs the written model. Default true. */
  readonly opened?: false;
  /** Reason of the refusal, or a remark of the report. */
  readonly reported: RegExp;
}

/** Fixtures that are refused, or pruned with a remark. */
const EXPECTED: Readonly<Record<string, Expected>> = {
  't5-optimum01-fp32': { outcome: 'refused', reported: /is an encoder-decoder.*choose/ },
  'lfm2-genai018-fp32': { reported: /mixer: stays as it is/ },
  'qwen3_moe-optimum01-fp32': { reported: /experts: stays as it is/ },
  'qwen3-genai018-fp16cuda': { opened: false, reported: /neither the written model nor the original runs here/ },
};

const cases = findCases('test/fixtures/exporters');

it('finds the fixtures', () => {
  expect(cases.length).toBeGreaterThanOrEqual(8);
  expect(cases.map(({ name }) => name)).toEqual(expect.arrayContaining(Object.keys(EXPECTED)));
});

describe.each(cases)('$name', (fixture) => {
  const { outcome = 'works', opened = true, reported = /^/ } = EXPECTED[fixture.name] ?? {};

  it.each(Object.keys(WAYS) as Way[])(
    'is pruned to a model that runs with its cache, or is refused as expected: %s',
    async (way) => {
      const run = await tryCase(fixture, way);
      expect(run).toMatchObject(outcome === 'works' ? { outcome, opened } : { outcome });
      const message = run.outcome === 'works' ? run.remarks.join('\n') : run.reason;
      expect(message).toMatch(way === 'FFN and heads' ? reported : /^/);
    },
    120_000,
  );
});
