import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { InterruptedError, withFolderHint, withResumeHint } from '../../src/cli/interrupted-error.js';
import { useTemporaryFolder } from '../support/temporary-folder.js';

const folder = useTemporaryFolder();
const aborted = AbortSignal.abort();
const failure = new Error('cannot write');

/** Path of an output with checkpoints. */
async function interruptedRun(): Promise<string> {
  const out = join(folder(), 'out');
  await mkdir(`${out}.partial`, { recursive: true });
  await writeFile(`${out}.partial/run.json`, JSON.stringify({ schema: 'fang-prune-run/2', key: 'ab' }));
  return out;
}

it.each<[string, object, string]>([
  ['a run', {}, ''],
  ['a run without healing', { heal: false }, ''],
  ['a run with healing', { heal: {} }, ', with --stop-healing to use the best weights of the last checkpoint'],
  ['heal', { dense: 'dense' }, ', with --stop-healing to use the best weights of the last checkpoint'],
])('says how to resume %s', async (_, request, healing) => {
  const out = await interruptedRun();
  const run = withResumeHint({ ...request, out, signal: aborted }, Promise.reject(failure));
  await expect(run).rejects.toThrow(InterruptedError);
  await expect(run).rejects.toThrow(
    `interrupted; run the same command again to resume from ${out}.partial${healing}, or with --no-resume to begin again`,
  );
});

it('leaves the error of a run that was not interrupted, or has no checkpoints', async () => {
  const out = await interruptedRun();
  const { signal } = new AbortController();
  for (const request of [
    { out, signal },
    { out },
    { signal: aborted },
    { out: join(folder(), 'other'), signal: aborted },
  ])
    await expect(withResumeHint(request, Promise.reject(failure))).rejects.toBe(failure);
  await expect(withFolderHint({ out, signal }, Promise.reject(failure))).rejects.toBe(failure);
  expect(await withResumeHint({ out, signal: aborted }, Promise.resolve(3))).toBe(3);
});
