import { chmod, mkdir, open, truncate, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createKeptHashes } from '../../src/platform/node/kept-hashes.js';
import { nodePlatform } from '../../src/platform/node/node-platform.js';
import type { Platform } from '../../src/platform/platform.js';
import type { Progress } from '../../src/progress.js';
import { hashFiles, hashUnchanged } from '../../src/storage/hash-files.js';
import { useTemporaryFolder } from '../support/temporary-folder.js';

const folder = useTemporaryFolder();
const at = (path: string) => join(folder(), path);

it('reads a large file again only when it has changed, and says how far it is', async () => {
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
  await mkdir(at('kept'));
  const platform = { ...nodePlatform, files, keptHashes: createKeptHashes(at('kept')) };
  const steps: Progress[] = [];
  const hash = () => hashUnchanged(platform, [at('weights')], { onProgress: (step) => steps.push(step) });
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
});

it('keeps no hashes where others may write, and takes nothing else for one', async () => {
  const hash = 'a'.repeat(64);
  await mkdir(at('kept'));
  const kept = createKeptHashes(at('kept'));
  await kept.put('name', hash);
  expect(await kept.get('name')).toBe(hash);
  expect(await kept.get('other')).toBeUndefined();
  await kept.put('name', 'no hash');
  expect(await kept.get('name')).toBeUndefined();
  await kept.put('name', hash);
  if (process.getuid === undefined) return;
  await chmod(at(`kept/fang-prune-hashes-${process.getuid()}`), 0o777);
  expect(await kept.get('name')).toBeUndefined();
});
