import { createColors } from 'picocolors';
import { formatBias } from '../../src/cli/bias.js';
import { BIAS_RESULT, runWithDouble } from '../support/cli.js';

it('passes all flags to the API', async () => {
  const { calls } = await runWithDouble(
    'bias dense pruned -t code.txt -c cal.jsonl --windows 8 --window-length 128 --read 4 --block 2 --contexts 6 ' +
      '--seed 7 --no-quotes --embeddings e.onnx --execution-provider cuda,cpu',
  );
  expect(calls).toEqual([
    [
      'measureCalibrationBias',
      {
        dense: 'dense',
        pruned: 'pruned',
        text: 'code.txt',
        calibration: { source: { file: 'cal.jsonl' }, windowCount: 8, windowLength: 128 },
        windowCount: 4,
        block: 2,
        contextCount: 6,
        seed: 7,
        quoteText: false,
        embeddings: 'e.onnx',
        executionProvider: ['cuda', 'cpu'],
        onProgress: expect.any(Function),
        signal: expect.any(AbortSignal),
      },
    ],
  ]);
});

it('passes only given flags to the API, and needs --text', async () => {
  const { calls } = await runWithDouble('bias dense pruned --text code.txt');
  expect(Object.keys(calls[0]![1]).sort()).toEqual(['dense', 'onProgress', 'pruned', 'signal', 'text']);
  expect(await runWithDouble('bias dense pruned')).toMatchObject({
    exitCode: 2,
    err: expect.stringContaining('--text'),
  });
});

it('prints texts, contexts and warnings', () => {
  const printed = formatBias(BIAS_RESULT, createColors(false));
  expect(printed).toMatch(/calibration +100 +3\.000 +3\.200 +0\.200 ± 0\.010/);
  expect(printed).toMatch(/code\.txt +100 +2\.500 +3\.500 +1\.000 ± 0\.010/);
  expect(printed).toMatch(/2 ! +0\.0 % +100\.0 % +1\.800 +80\.0 % +\\n\\t/);
  expect(printed).toContain('warning: 80.0 % of the loss increase on the text');
  expect(formatBias({ ...BIAS_RESULT, warnings: [] }, createColors(false))).toContain('Nothing suspicious');
});
