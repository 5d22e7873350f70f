import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { runWithDouble } from '../support/cli.js';
import { useTemporaryFolder } from '../support/temporary-folder.js';

const folder = useTemporaryFolder();

it('passes its flags to the API, and prints a table with a recommendation', async () => {
  const { calls, out } = await runWithDouble(
    'choose dense -o sizes -t mine.txt --test other.txt -s 60MB,80MB --most-loss 3% --keep-languages en',
  );
  expect(calls).toEqual([
    [
      'choose',
      {
        model: 'dense',
        out: 'sizes',
        text: 'mine.txt',
        test: 'other.txt',
        targetSize: ['60MB', '80MB'],
        mostLoss: 0.03,
        keepLanguages: ['en'],
        onProgress: expect.any(Function),
        signal: expect.any(AbortSignal),
      },
    ],
  ]);
  expect(out).toMatch(/\* +60MB +59\.0 MB +1\.0190 +1\.9 % +210 +12\.0 ms/);
  expect(out).toContain('Bits per byte of other.txt; first token after a prompt of 128 tokens.');
  expect(out).toContain('Take sizes/60MB: the smallest that loses at most 3 % of bits per byte.');
});

it('notes that the calibration text is optimistic, and that all models lose too much', async () => {
  const { out } = await runWithDouble('choose dense -o sizes -t mine.txt --most-loss 1%');
  expect(out).toContain('the models were calibrated on this text, so results are optimistic; --test gives another');
  expect(out).toContain('none loses at most 1 % of bits per byte, and this one loses least');
});

it('needs --text', async () => {
  const { err } = await runWithDouble('choose dense -o sizes');
  expect(err).toContain('--text is missing');
  const { out } = await runWithDouble('choose --help');
  expect(out).toMatch(/calibration text, .txt or .jsonl/);
});

it('prints how to resume after Ctrl-C if the folder has checkpoints', async () => {
  const out = join(folder(), 'sizes');
  const stop = async () => {
    const interrupted = { choose: () => Promise.reject(new Error('aborted')) };
    return (await runWithDouble(`choose dense -o ${out} -t mine.txt`, interrupted, AbortSignal.abort())).err;
  };
  expect(await stop()).toBe('fang-prune: interrupted; nothing was written\n');
  await mkdir(join(out, 'q4.partial'), { recursive: true });
  expect(await stop()).toBe('fang-prune: interrupted; nothing was written\n');
  await writeFile(join(out, 'q4.partial/run.json'), '{}');
  expect(await stop()).toBe(`fang-prune: interrupted; run the same command again to resume from ${out}\n`);
});
