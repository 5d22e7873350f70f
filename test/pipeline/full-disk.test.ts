import { mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { OptionError } from '../../src/errors.js';
import { nodePlatform } from '../../src/node/node-platform.js';
import { prune } from '../../src/node.js';
import type { PruneRequest } from '../../src/pipeline/prune-request.js';
import { runPrune } from '../../src/pipeline/run-prune.js';
import { SHORT_LLAMA } from '../support/short-llama.js';
import { filesWithRoom, fillDisk, itWithMounts, mountSmallDisk } from '../support/small-disk.js';
import { hashFolder, listFiles, useTemporaryFolder } from '../support/temporary-folder.js';

const folder = useTemporaryFolder();
const at = (path: string) => join(folder(), path);

const requestFor = (model: string): PruneRequest => ({
  model,
  out: at('out'),
  sparsity: 0.3,
  method: 'flap',
  certify: false,
  evaluation: false,
  calibration: {
    windowCount: 2,
    windowLength: 16,
    source: { tokens: [Array.from({ length: 64 }, (_, token) => token)] },
  },
});

const isInside = (path: string) => path.startsWith('out/');

it('leaves no partial result on a full disk, and succeeds when there is room', async () => {
  const request = requestFor('test/fixtures/exporters/llama-genai018-fp32');
  const run = (room: number) => runPrune({ ...nodePlatform, files: filesWithRoom(nodePlatform.files, room) }, request);
  await run(Number.POSITIVE_INFINITY);
  const whole = await hashFolder(at('out'));
  await rm(at('out'), { recursive: true });
  for (const room of [0, 1_000, 20_000, 60_000, 110_000, 120_000, 150_000]) {
    const failed = run(room);
    await expect(failed).rejects.toThrow(OptionError);
    await expect(failed).rejects.toThrow(/^Cannot write .*ENOSPC.*Make room or choose another place/);
    expect((await listFiles(folder())).filter(isInside)).toEqual([]);
  }
  await run(Number.POSITIVE_INFINITY);
  expect(await hashFolder(at('out'))).toBe(whole);
  expect((await listFiles(folder())).filter((path) => !isInside(path))).toEqual([]);
});

itWithMounts('leaves no partial result on a real disk of 20 MB', async () => {
  await mkdir(at('disk'));
  const unmount = mountSmallDisk(at('disk'), 20);
  try {
    const request = { ...requestFor(SHORT_LLAMA), out: at('disk/out') };
    fillDisk(at('disk'), 1e6);
    await expect(prune(request)).rejects.toThrow(/it needs at least \d+ bytes, and .* has \d+ free/);
    await rm(at('disk/filler'));
    // The disk fills up during the run.
    const filling = prune({ ...request, onProgress: ({ stage }) => stage === 'prune' && fillDisk(at('disk'), 1e6) });
    await expect(filling).rejects.toThrow(/^Cannot write .*ENOSPC.*Make room/);
    await rm(at('disk/filler'));
    const isKept = (path: string) => path.startsWith('out.partial/') && !path.includes('result/');
    expect((await listFiles(at('disk'))).filter((path) => !isKept(path))).toEqual([]);
    await prune(request);
    expect((await listFiles(at('disk'))).filter((path) => !path.startsWith('out/'))).toEqual([]);
  } finally {
    unmount();
  }
});

itWithMounts('counts files of an interrupted run as free space', async () => {
  await mkdir(at('disk'));
  const unmount = mountSmallDisk(at('disk'), 20);
  try {
    await mkdir(at('disk/out.partial/result'), { recursive: true });
    await writeFile(at('disk/out.partial/result/weights'), new Uint8Array(8e6));
    const check = (byteLength: number) =>
      nodePlatform.files.checkOutput({ output: at('disk/out'), source: at('model'), byteLength });
    await expect(check(16e6)).resolves.toMatch(/out$/);
    await expect(check(24e6)).rejects.toThrow(/it needs at least 16000000 bytes/);
  } finally {
    unmount();
  }
});
