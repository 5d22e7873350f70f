import { chmod, mkdir, open, stat, truncate, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createHashCache } from '../../src/node/hash-cache.js';
import { nodePlatform } from '../../src/node/node-platform.js';
import type { Progress } from '../../src/progress.js';
import type { Platform } from '../../src/runtime/platform.js';
import { hashFiles, hashFilesCached } from '../../src/storage/hash-files.js';
import { useTemporaryFolder } from '../support/temporary-folder.js';

const folder = useTemporaryFolder();
const at = (path: string) => join(folder(), path);

it('reads a large file again only if it changed, and reports progress', async () => {
  await writeFile(at('weights'), 'first');
  await truncate(at('weights'), 2 ** 28);
  let read = 0;
  const files: Platform['files'] = {
    ...nodePlatform.files,
    async open(...given) {
      const opened = await nodePlatform.files.open(...given);
      const counted = (...range: [number, number]) => {
        read += range[1];
        return opened!.read(...range);
      };
      return opened && { ...opened, read: counted };
    },
  };
  await mkdir(at('cache'));
  const platform = { ...nodePlatform, files, hashCache: createHashCache(at('cache')) };
  const steps: Progress[] = [];
  const hash = () => hashFilesCached(platform, [at('weights')], { onProgress: (step) => steps.push(step) });
  const first = await hash();
  expect(steps.map(({ stage, done }) => [stage, done / 2 ** 26])).toEqual(
    [0, 1, 2, 3, 4].map((part) => ['hash', part]),
  );
  expect(await hash()).toBe(first);
  expect(read).toBe(2 ** 28);
  const file = await open(at('weights'), 'r+');
  await file.write('other', 7);
  await file.close();
  await utimes(at('weights'), new Date(), new Date());
  const second = await hash();
  expect(second).not.toBe(first);
  expect(second).toBe(await hashFiles(nodePlatform, [at('weights')]));
  // As `cp -p` leaves it: other contents of the same size, with the old times.
  const { atime, mtime } = await stat(at('weights'));
  const again = await open(at('weights'), 'r+');
  await again.write('third', 7);
  await again.close();
  await utimes(at('weights'), atime, mtime);
  expect(await hash()).toBe(await hashFiles(nodePlatform, [at('weights')]));
});

it('reads no cache that others may write to, and ignores invalid hashes', async () => {
  const hash = 'a'.repeat(64);
  await mkdir(at('cache'));
  const cache = createHashCache(at('cache'));
  await cache.put('name', hash);
  expect(await cache.get('name')).toBe(hash);
  expect(await cache.get('other')).toBeUndefined();
  await cache.put('name', 'no hash');
  expect(await cache.get('name')).toBeUndefined();
  await cache.put('name', hash);
  if (process.getuid === undefined) return;
  await chmod(at(`cache/fang-prune-hashes-${process.getuid()}`), 0o777);
  expect(await cache.get('name')).toBeUndefined();
});
