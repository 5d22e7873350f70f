import { formatRunsLine, parseScoreLines } from '../../src/evaluation/score-lines.js';

it('begins again after a first line that was interrupted, and refuses other text', () => {
  const header = formatRunsLine([]);
  for (const length of [0, 5, header.length - 1]) expect(parseScoreLines(header.slice(0, length), 'a')).toBeUndefined();
  expect(parseScoreLines(header, 'a')).toMatchObject({ runs: [], completeBytes: header.length });
  expect(() => parseScoreLines('{"text": "Hello"}', 'a')).toThrow(/^a does not begin like a file of scores/);
});
