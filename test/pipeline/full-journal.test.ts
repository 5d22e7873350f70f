import { mkdir, readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { OptionError } from '../../src/errors.js';
import { createEntryStore } from '../../src/node/entry-store.js';
import { createFileSink } from '../../src/node/file-sink.js';
import { nodePlatform } from '../../src/node/node-platform.js';
import { openWorkspace } from '../../src/node/workspace.js';
import { runPrune } from '../../src/pipeline/run-prune.js';
import type { WorkspaceRequest } from '../../src/runtime/journal.js';
import type { Platform } from '../../src/runtime/platform.js';
import { writing } from '../../src/runtime/writing.js';
import { eagerPlatform } from '../support/eager-platform.js';
import { fillDisk, itWithMounts, mountSmallDisk } from '../support/small-disk.js';
import { hashesOf, listFiles, useTemporaryFolder } from '../support/temporary-folder.js';

const folder = useTemporaryFolder();
const at = (path: string) => join(folder(), path);

const MODEL = 'test/fixtures/exporters/llama-genai018-fp32';
const source = { tokens: Array.from({ length: 64 }, (_, token) => token) };
const requestFor = (out: string) => ({
  model: MODEL,
  out,
  sparsity: 0.3,
  method: 'o-fang',
  certify: false,
  evaluation: false,
  calibration: { windowCount: 2, windowLength: 16, source },
});

/** Calls of a journal's files that may fail, in the order in which a run makes them. */
type Call = 'create' | 'write' | 'close';

/** A platform on which the journal fails with ENOSPC after `room` of these calls. */
function platformWithRoom(call: Call, room: number): Platform & { readonly calls: () => number } {
  let calls = 0;
  const take = (kind: Call, path: string) =>
    writing(path, async () => {
      if (kind === call && ++calls > room)
        throw Object.assign(new Error(`ENOSPC: no space left on device, ${kind}`), { code: 'ENOSPC' });
    });
  const createSink: typeof createFileSink = async (path) => {
    await take('create', path);
    const sink = await createFileSink(path);
    return {
      async write(bytes) {
        await take('write', path);
        await sink.write(bytes);
      },
      close: () => take('close', path).finally(() => sink.close()),
    };
  };
  const openWorkspaceThere = (request: WorkspaceRequest) => openWorkspace(request, createSink);
  return { ...eagerPlatform({ ...nodePlatform, openWorkspace: openWorkspaceThere }), calls: () => calls };
}

/** Names of complete entries; fails if there are other files. */
async function wholeEntries(workspace: string): Promise<readonly string[]> {
  const names = await readdir(workspace);
  expect(names.filter((name) => name !== 'run.json' && !name.endsWith('.entry'))).toEqual([]);
  const entries = names.filter((name) => name.endsWith('.entry')).map((name) => name.slice(0, -'.entry'.length));
  const { key } = JSON.parse(await readFile(join(workspace, 'run.json'), 'utf8')) as { key: string };
  const store = createEntryStore(workspace, key);
  for (const name of entries) expect(await store.has(name)).toBe(true);
  return entries;
}

describe('a disk that is full when the journal writes', () => {
  it.each<Call>(['create', 'write', 'close'])(
    'fails the run, keeps complete checkpoints, and lets it resume once there is room (%s)',
    async (call) => {
      await mkdir(at('whole'));
      const uninterrupted = platformWithRoom(call, Number.POSITIVE_INFINITY);
      await runPrune(uninterrupted, requestFor(at('whole/x')));
      const all = uninterrupted.calls();
      for (const share of [0, 0.6]) {
        const cut = at(`cut ${share}`);
        await mkdir(cut);
        const request = requestFor(join(cut, 'x'));
        let kept: readonly string[] | undefined;
        // The second time there is no room at all.
        for (const room of share === 0 ? [0] : [Math.floor(share * all), 0]) {
          const run = runPrune(platformWithRoom(call, room), request);
          await expect(run).rejects.toThrow(OptionError);
          await expect(run).rejects.toThrow(/^Cannot write .*x\.partial.*ENOSPC.*Make room or choose another place/);
          expect(await readdir(cut)).toEqual(share === 0 ? [] : ['x.partial']);
          const entries = share === 0 ? [] : await wholeEntries(join(cut, 'x.partial'));
          expect(entries).toEqual(kept ?? entries);
          kept = entries;
        }
        expect(kept!.length > 0).toBe(share > 0);
        const last = platformWithRoom(call, Number.POSITIVE_INFINITY);
        const { remarks } = await runPrune(last, request);
        expect(remarks.join().includes('resumed from checkpoints')).toBe(share > 0);
        expect(last.calls() < all).toBe(share > 0);
        expect(await readdir(cut)).toEqual(['x']);
        expect(await hashesOf(cut)).toEqual(await hashesOf(at('whole')));
      }
    },
    120_000,
  );
});

itWithMounts('does not change a workspace if there is no room for its lock', async () => {
  await mkdir(at('disk'));
  const unmount = mountSmallDisk(at('disk'), 1);
  try {
    const request = { output: at('disk/out'), key: 'a', resume: true };
    const first = await openWorkspace(request);
    await first.journal.write('kept', [Float32Array.of(1, 2)]);
    await first.close(false);
    const before = await listFiles(at('disk'));
    expect(before).toEqual(['out.partial/kept.entry', 'out.partial/run.json']);
    fillDisk(at('disk'), 0);
    await expect(openWorkspace(request)).rejects.toThrow(/^Cannot write .*ENOSPC.*Make room/);
    await rm(at('disk/filler'));
    expect(await listFiles(at('disk'))).toEqual(before);
    const again = await openWorkspace(request);
    expect(again.found).toBe('same');
    expect(await again.journal.has('kept')).toBe(true);
    await again.close(true);
    expect(await listFiles(at('disk'))).toEqual([]);
  } finally {
    unmount();
  }
});
