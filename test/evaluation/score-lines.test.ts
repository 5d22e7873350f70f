import { OptionError } from '../../src/errors.js';
import {
  checkRuns,
  formatRunsLine,
  formatScoreLines,
  parseScoreLines,
  type ScoredRun,
} from '../../src/evaluation/score-lines.js';

const run = (given: Partial<ScoredRun> = {}): ScoredRun => ({
  model: 'dense',
  source: 'Prüfung.txt',
  kind: 'perplexity',
  modelSha256: 'ab',
  sourceSha256: 'cd',
  protocol: { windowLength: 8 },
  ...given,
});

it('begins again after a first line that was interrupted, and refuses other text', () => {
  const header = formatRunsLine([]);
  for (const length of [0, 5, header.length - 1]) expect(parseScoreLines(header.slice(0, length), 'a')).toBeUndefined();
  expect(parseScoreLines(header, 'a')).toMatchObject({ runs: [], completeBytes: header.length });
  expect(() => parseScoreLines('{"text": "Hello"}', 'a')).toThrow(/^a does not begin like a file of scores/);
});

it('counts the bytes of complete lines, not their characters', () => {
  const whole = formatRunsLine([run()]) + formatScoreLines(0, [{ index: 3, nll: 1, tokenCount: 7 } as never]);
  const { scores, completeBytes } = parseScoreLines(`${whole}{"run":0,"ind`, 'a')!;
  expect(completeBytes).toBe(new TextEncoder().encode(whole).length);
  expect([...scores[0]!.keys()]).toEqual([3]);
});

it('refuses a score without tokens', () => {
  const lines = formatRunsLine([run()]) + formatScoreLines(0, [{ index: 0, nll: 1, tokenCount: 0 } as never]);
  expect(() => parseScoreLines(lines, 'a')).toThrow(/^a line 2 is not a score of a perplexity: tokenCount is 0/);
});

it('refuses scores of settings that this evaluation lacks or changes, whatever the names of files', () => {
  const check = (found: Partial<ScoredRun>) => () => checkRuns([run(found)], [run()], 'a');
  expect(check({ model: './dense', source: 'other.txt' })).not.toThrow();
  expect(check({ protocol: { windowLength: 8, leadingTokens: [0] } })).toThrow(OptionError);
  expect(check({ protocol: { windowLength: 8, leadingTokens: [0] } })).toThrow(/: leadingTokens \[0\] \(now none\);/);
  expect(check({ protocol: { windowLength: 9 } })).toThrow(/: windowLength 9 \(now 8\);/);
  expect(check({ referenceSha256: 'ef' })).toThrow(/: referenceSha256 "ef" \(now none\);/);
});
