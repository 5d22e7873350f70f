import 'fake-indexeddb/auto';
import { createStore, keys } from 'idb-keyval';
import { runPrune } from '../../src/pipeline/run-prune.js';
import type { Platform } from '../../src/runtime/platform.js';
import { createWebPlatform, type JobControl, type Progress, type PruneRequest } from '../../src/web.js';
import { eagerPlatform } from '../support/eager-platform.js';
import { testEngine } from '../support/engine.js';
import { FakeDirectory } from '../support/fake-directory.js';
import { filesOf } from '../support/web-places.js';

/** On the platform, since requests with an engine of their own do not resume. */
const withEngine = (platform: Platform): Platform => ({ ...platform, createEngine: async () => testEngine });

const model = filesOf('test/fixtures/exporters/llama-genai018-fp32');
const pageOf = (home: FakeDirectory) =>
  withEngine(eagerPlatform(createWebPlatform({ folders: { model, gone: new Map() }, home })));
const RUN = {
  ...({ model: '/model', out: 'smaller', sparsity: 0.3, method: 'o-fang', certify: false, evaluation: false } as const),
  calibration: {
    windowCount: 2,
    windowLength: 16,
    source: { tokens: Array.from({ length: 64 }, (_, token) => token) },
  },
};
const run = (page: Platform, request: Partial<PruneRequest> = {}, control: JobControl = {}) =>
  runPrune(page, { ...RUN, ...request, ...control });

const bytesOf = async ({ files }: Platform, path: string) => {
  const file = (await files.open(path))!;
  return Buffer.from(await file.read(0, file.byteLength));
};

const countCheckpoints = async () => (await keys(createStore('fang-prune', 'runs'))).length;

/** Aborts a run when 60 % is pruned, as if its page were closed. */
async function abortRun(page: Platform, request: Partial<PruneRequest> = {}): Promise<void> {
  const abortion = new AbortController();
  const onProgress = ({ stage, done, total = 0 }: Progress) =>
    stage === 'prune' && done > 0.6 * total && abortion.abort();
  await expect(run(page, request, { onProgress, signal: abortion.signal })).rejects.toThrow('abort');
}

it('resumes a run whose page was closed, to the same bytes, and removes its checkpoints', async () => {
  const [whole, page] = [pageOf(new FakeDirectory('a')), pageOf(new FakeDirectory('b'))];
  const steps: Progress[] = [];
  await run(whole, {}, { onProgress: (step) => void steps.push(step) });
  expect(await countCheckpoints()).toBe(0);
  await abortRun(page);
  expect(await countCheckpoints()).toBeGreaterThan(3);
  const rest: Progress[] = [];
  const { remarks } = await run(page, {}, { onProgress: (step) => void rest.push(step) });
  expect(rest.length).toBeLessThan(steps.length);
  expect(remarks.join()).toContain(
    'resumed from checkpoints of an interrupted run in the journal of /opfs/smaller in this browser',
  );
  expect(await countCheckpoints()).toBe(0);
  for (const name of ['model.onnx', 'model.onnx.data'])
    expect((await bytesOf(page, `/opfs/smaller/${name}`)).equals(await bytesOf(whole, `/opfs/smaller/${name}`))).toBe(
      true,
    );
  // The same call returns the finished result.
  await run(page);
  await expect(run(page, { seed: 1 })).rejects.toThrow('exists');
}, 120_000);

it('ignores checkpoints of other options or without resume, and saves none for a map', async () => {
  const page = pageOf(new FakeDirectory('c'));
  await abortRun(page);
  const { remarks } = await run(page, { seed: 1 });
  expect(remarks.join()).toContain('another model, text, options or version');
  await abortRun(page, { out: 'again' });
  const restarted = await run(page, { out: 'again', resume: false });
  expect(restarted.remarks.join()).not.toContain('resumed');
  await abortRun(page, { out: '/gone' });
  expect(await countCheckpoints()).toBe(0);
}, 120_000);
