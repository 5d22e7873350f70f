import { handleFolder } from '../../src/web/handle-folder.js';
import { mapFolder } from '../../src/web/map-folder.js';
import { sweepAfter, writeAtomically } from '../../src/web/partial-folder.js';
import type { WebFolder } from '../../src/web/web-folder.js';
import { FakeDirectory } from '../support/fake-directory.js';

const FOLDERS: readonly (readonly [string, () => WebFolder])[] = [
  ['a map', () => mapFolder(new Map())],
  ['a directory handle', () => handleFolder(new FakeDirectory('picked'))],
];

describe.each(FOLDERS)('%s', (_, makeFolder) => {
  const write = async (folder: WebFolder, path: string, text: string) => {
    const sink = await folder.create(path);
    await sink.write(new TextEncoder().encode(text));
    await sink.close();
  };
  const read = async (folder: WebFolder, path: string) => {
    const source = await folder.open(path);
    return source && new TextDecoder().decode(await source.read(0, source.byteLength));
  };
  const make = (folder: WebFolder) =>
    writeAtomically(folder, 'run', async (aside) => {
      await write(folder, `${aside}/a`, 'new a');
      await write(folder, `${aside}/b`, 'new b');
      const moves = ['a', 'b'].map((name) => [`${aside}/${name}`, `out/${name}`] as const);
      return ['made', { moves, removals: ['out/old/c'] }];
    });

  it.each([0, 1, 2])('finishes a complete folder whose page was closed after moving %i of two files', async (moved) => {
    const folder = makeFolder();
    await write(folder, 'out/a', 'old a');
    await write(folder, 'out/old/c', 'old c');
    let left = moved;
    const closed = () => Promise.reject(new Error('closed'));
    const closing: WebFolder = {
      ...folder,
      move: async (from, to) => (left-- > 0 ? folder.move(from, to) : closed()),
      remove: async (path) => (path.startsWith('out') ? folder.remove(path) : closed()),
    };
    await expect(make(closing)).rejects.toThrow('closed');
    await sweepAfter(folder, 'other');
    expect(await read(folder, 'out/a')).toBe(moved === 0 ? 'old a' : 'new a');
    await sweepAfter(folder, 'run');
    expect([await read(folder, 'out/a'), await read(folder, 'out/b')]).toEqual(['new a', 'new b']);
    expect((await folder.list('')).map(({ name }) => name)).toEqual(['out']);
    expect(await folder.kindOf('out/old')).toBeUndefined();
  });

  it('removes an incomplete folder', async () => {
    const folder = makeFolder();
    await write(folder, '.partial-run-1/files/a', 'half');
    await sweepAfter(folder, 'run');
    expect(await folder.list('')).toEqual([]);
  });

  it('returns the result of its callback, and moves the files', async () => {
    const folder = makeFolder();
    expect(await make(folder)).toBe('made');
    expect((await folder.list('out')).map(({ name }) => name).sort()).toEqual(['a', 'b']);
  });
});
