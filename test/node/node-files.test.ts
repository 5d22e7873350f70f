import { mkdir, readdir, readFile, symlink, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { ModelFormatError, OptionError } from '../../src/errors.js';
import { nodeFiles } from '../../src/node/node-files.js';
import { createSpillFile } from '../../src/node/spill-file.js';
import type { ByteSink } from '../../src/onnx/byte-source.js';
import { openFolder } from '../../src/storage/open-folder.js';
import { createScratchWeights } from '../../src/storage/scratch-weights.js';
import { listFiles, useTemporaryFolder } from '../support/temporary-folder.js';

const folder = useTemporaryFolder();

describe('a folder to read', () => {
  it('reads ranges of files in it', async () => {
    await mkdir(join(folder(), 'a'));
    await writeFile(join(folder(), 'a/b'), 'hello');
    const files = openFolder(nodeFiles, folder());
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
    const files = openFolder(nodeFiles, join(folder(), 'snapshot'));
    expect((await files.open('model.onnx'))?.byteLength).toBe(7);
    await files.close();
  });

  it('refuses paths that leave it, and returns undefined for missing files', async () => {
    const files = openFolder(nodeFiles, folder());
    await expect(files.open('../x')).rejects.toThrow(ModelFormatError);
    await expect(files.open('/etc/hostname')).rejects.toThrow(ModelFormatError);
    expect(await files.open('missing')).toBeUndefined();
    expect(await files.open('missing/deeper')).toBeUndefined();
    await mkdir(join(folder(), 'a'));
    await expect(files.open('a')).rejects.toThrow(/not a file/);
  });

  it('throws if a file became shorter', async () => {
    const path = join(folder(), 'x');
    await writeFile(path, '0123456789');
    const source = (await nodeFiles.open(path))!;
    await truncate(path, 4);
    await expect(source.read(0, 10)).rejects.toThrow(/became shorter/);
    await source.close();
  });
});

describe('a folder to write into', () => {
  it('writes small and large pieces in order', async () => {
    const file = await openFolder(nodeFiles, folder()).create('deep/er/x');
    const pieces = [1, 2 ** 21, 3, 2 ** 20, 2 ** 20 - 1, 5].map((length, i) => new Uint8Array(length).fill(i + 1));
    for (const piece of pieces) await file.write(piece);
    await file.close();
    expect(Buffer.concat(pieces).equals(await readFile(join(folder(), 'deep/er/x')))).toBe(true);
  });

  it('refuses paths that leave it or cannot be created', async () => {
    await expect(openFolder(nodeFiles, folder()).create('../x')).rejects.toThrow(ModelFormatError);
    await writeFile(join(folder(), 'file'), '');
    await expect(openFolder(nodeFiles, folder()).create('file/x')).rejects.toThrow(OptionError);
  });

  it('removes the folders that it created if a file cannot be completed', async () => {
    await mkdir(join(folder(), 'old'));
    const write = async (sink: ByteSink) => sink.write(Uint8Array.of(1));
    const failing = () => Promise.reject(new Error('aborted'));
    const at = (...parts: string[]) => join(folder(), ...parts);
    const files = new Map([
      [at('old/new/deeper/a'), write],
      [at('old/new/b'), failing],
    ]);
    await expect(nodeFiles.writeTogether(files)).rejects.toThrow('aborted');
    expect(await readdir(at('old'))).toEqual([]);
    await writeFile(at('old/mine'), '');
    await expect(nodeFiles.writeTogether(files)).rejects.toThrow('aborted');
    expect(await readdir(at('old'))).toEqual(['mine']);
    await nodeFiles.writeTogether(new Map([[at('old/new/deeper/a'), write]]));
    expect(await readdir(at('old/new/deeper'))).toEqual(['a']);
  });
});

describe('createSpillFile', () => {
  it('reads what was written, also by concurrent writes', async () => {
    const spill = await createSpillFile(folder());
    const store = createScratchWeights(spill);
    const handles = await Promise.all(
      [3, 0, 70_000, 1].map((length, i) => store({ dataType: 2, dims: [length] }, new Uint8Array(length).fill(i))),
    );
    const bytes = await Promise.all(handles.map((handle) => handle.read()));
    expect(bytes.map(({ length }) => length)).toEqual([3, 0, 70_000, 1]);
    expect(bytes.every((content, i) => content.every((byte) => byte === i))).toBe(true);
    expect(await handles[2]!.read({ offset: 69_998, length: 2 })).toEqual(Uint8Array.of(2, 2));
    const wrong = async () => store({ dataType: 1, dims: [3] }, new Uint8Array(3));
    await expect(wrong()).rejects.toThrow(ModelFormatError);
    await expect(spill.readInto(70_000, new Uint8Array(100))).rejects.toThrow(ModelFormatError);
    await spill.dispose();
    expect(await listFiles(folder())).toEqual([]);
    await expect(handles[0]!.read()).rejects.toThrow(ModelFormatError);
  });

  it('leaves no file even if it is not disposed', async () => {
    if (process.platform === 'win32') return;
    const spill = await createSpillFile(folder());
    await spill.write(0, new Uint8Array(10));
    expect(await listFiles(folder())).toEqual([]);
    await spill.dispose();
  });

  it('throws OptionError if its folder is missing', async () => {
    await expect(createSpillFile(join(folder(), 'missing'))).rejects.toThrow(OptionError);
  });
});
