import { mkdir, readFile, symlink, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { ModelFormatError, OptionError } from '../../src/errors.js';
import { createFileSink, openFileFolder } from '../../src/node/file-folder.js';
import { openFileSource } from '../../src/node/file-source.js';
import { createSpillFile } from '../../src/node/spill-file.js';
import { listFiles, useTemporaryFolder } from './temporary-folder.js';

const folder = useTemporaryFolder();

describe('openFileFolder', () => {
  it('reads ranges of files in it', async () => {
    await mkdir(join(folder(), 'a'));
    await writeFile(join(folder(), 'a/b'), 'hello');
    const files = openFileFolder(folder());
    const source = (await files.open('./a/b'))!;
    expect(source.byteLength).toBe(5);
    expect(Buffer.from(await source.read(1, 3)).toString()).toBe('ell');
    expect(await source.read(5, 0)).toHaveLength(0);
    await expect(source.read(3, 3)).rejects.toThrow(ModelFormatError);
    await expect(source.read(-1, 1)).rejects.toThrow(ModelFormatError);
    await files.close();
  });

  it('follows links to files, as caches of downloads have them', async () => {
    await mkdir(join(folder(), 'blobs'));
    await mkdir(join(folder(), 'snapshot'));
    await writeFile(join(folder(), 'blobs/x'), 'weights');
    await symlink('../blobs/x', join(folder(), 'snapshot/model.onnx'));
    const files = openFileFolder(join(folder(), 'snapshot'));
    expect((await files.open('model.onnx'))?.byteLength).toBe(7);
    await files.close();
  });

  it('refuses paths that leave it, and knows what is missing', async () => {
    const files = openFileFolder(folder());
    await expect(files.open('../x')).rejects.toThrow(ModelFormatError);
    await expect(files.open('/etc/hostname')).rejects.toThrow(ModelFormatError);
    expect(await files.open('missing')).toBeUndefined();
    expect(await files.open('missing/deeper')).toBeUndefined();
    await mkdir(join(folder(), 'a'));
    await expect(files.open('a')).rejects.toThrow(/not a file/);
  });

  it('notices a file that shrinks', async () => {
    const path = join(folder(), 'x');
    await writeFile(path, '0123456789');
    const source = (await openFileSource(path))!;
    await truncate(path, 4);
    await expect(source.read(0, 10)).rejects.toThrow(/became shorter/);
    await source.close();
  });
});

describe('createFileSink', () => {
  it('writes small and large pieces in order', async () => {
    const file = await createFileSink(folder()).create('deep/er/x');
    const pieces = [1, 2 ** 21, 3, 2 ** 20, 2 ** 20 - 1, 5].map((length, i) => new Uint8Array(length).fill(i + 1));
    for (const piece of pieces) await file.write(piece);
    await file.close();
    expect(Buffer.concat(pieces).equals(await readFile(join(folder(), 'deep/er/x')))).toBe(true);
  });

  it('refuses to leave the folder, and says why it cannot write', async () => {
    await expect(createFileSink(folder()).create('../x')).rejects.toThrow(ModelFormatError);
    await writeFile(join(folder(), 'file'), '');
    await expect(createFileSink(folder()).create('file/x')).rejects.toThrow(OptionError);
  });
});

describe('createSpillFile', () => {
  it('gives back what was appended, also when appends overlap', async () => {
    const spill = await createSpillFile({ parent: folder() });
    const offsets = await Promise.all(
      [3, 0, 70_000, 1].map((length, i) => spill.append(new Uint8Array(length).fill(i))),
    );
    expect(offsets).toEqual([0, 3, 3, 70_003]);
    expect(spill.byteLength).toBe(70_004);
    expect([...(await spill.read(2, 2))]).toEqual([0, 2]);
    expect([...(await spill.read(70_002, 2))]).toEqual([2, 3]);
    const handle = await spill.appendTensor({ dataType: 2, dims: [3] }, Uint8Array.of(7, 8, 9));
    expect([...(await handle.read({ offset: 1, length: 2 }))]).toEqual([8, 9]);
    await expect(spill.appendTensor({ dataType: 1, dims: [3] }, new Uint8Array(3))).rejects.toThrow(ModelFormatError);
    await expect(spill.read(70_000, 100)).rejects.toThrow(ModelFormatError);
    await spill.dispose();
    expect(await listFiles(folder())).toEqual([]);
    await expect(spill.read(0, 1)).rejects.toThrow(ModelFormatError);
  });

  it('leaves nothing behind even when nobody disposes of it', async () => {
    if (process.platform === 'win32') return;
    const spill = await createSpillFile({ parent: folder() });
    await spill.append(new Uint8Array(10));
    expect(await listFiles(folder())).toEqual([]);
    await spill.dispose();
  });

  it('says when there is no place for it', async () => {
    await expect(createSpillFile({ parent: join(folder(), 'missing') })).rejects.toThrow(OptionError);
  });
});
