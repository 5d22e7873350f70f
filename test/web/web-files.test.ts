import { OptionError } from '../../src/errors.js';
import { MANIFEST } from '../../src/runtime/folder-manifest.js';
import { readBytes } from '../../src/storage/read-bytes.js';
import { createWebFiles } from '../../src/web/web-files.js';
import type { WebPlace } from '../../src/web/web-place.js';
import { FakeDirectory } from '../support/fake-directory.js';

const encode = (text: string) => new TextEncoder().encode(text);

const PLACES: readonly (readonly [string, () => WebPlace])[] = [
  ['a map', () => new Map()],
  ['a directory handle', () => new FakeDirectory('picked')],
];

describe.each(PLACES)('%s', (_, makePlace) => {
  const open = () => {
    const files = createWebFiles({ in: new Map([['model.onnx', encode('model')]]), out: makePlace() });
    const write = async (path: string, text: string) => {
      const sink = await files.create(path);
      await sink.write(encode(text));
      await sink.close();
    };
    const read = async (path: string) => {
      const bytes = await readBytes(files, path);
      return bytes && new TextDecoder().decode(bytes);
    };
    return { files, write, read };
  };

  it('lists entries, and finds the kinds of paths', async () => {
    const { files, write } = open();
    await write('/out/b/c', 'x');
    await write('/out/a', 'y');
    expect(await files.list('/out')).toEqual([
      { name: 'a', kind: 'file' },
      { name: 'b', kind: 'folder' },
    ]);
    expect(await Promise.all(['/out', '/out/b', '/out/b/c', '/out/d', '/other'].map(files.kindOf))).toEqual([
      'folder',
      'folder',
      'file',
      undefined,
      undefined,
    ]);
    expect(await files.open('/out/d/e')).toBeUndefined();
    expect((await files.open('/out/a'))!).toMatchObject({ name: '/out/a', byteLength: 1 });
    await expect(files.create('/other/x')).rejects.toThrow(/none of the folders given \(in, out\)/);
  });

  it('reads ranges of a file, and refuses ranges beyond its end', async () => {
    const { files, write } = open();
    await write('/out/a', 'hello');
    const source = (await files.open('/out/a'))!;
    expect(new TextDecoder().decode(await source.read(1, 3))).toBe('ell');
    await expect(source.read(3, 3)).rejects.toThrow(/exceed its 5 bytes/);
  });

  it('appends to a file only if it has the expected length', async () => {
    const { files, read } = open();
    expect(await files.append('/out/lines', { text: 'one\ntw', start: 0, expectedBytes: 0 })).toBe(6);
    expect(await files.append('/out/lines', { text: 'two\n', start: 4, expectedBytes: 6 })).toBe(8);
    expect(await read('/out/lines')).toBe('one\ntwo\n');
    await expect(files.append('/out/lines', { text: 'x', start: 8, expectedBytes: 7 })).rejects.toThrow(OptionError);
  });

  it('writes files together or not at all', async () => {
    const { files, write, read } = open();
    await write('/out/a', 'old');
    const text = (content: string) => (sink: { write(bytes: Uint8Array): Promise<void> }) =>
      sink.write(encode(content));
    const broken = async () => Promise.reject(new Error('broken'));
    const failing = files.writeTogether(new Map([['/out/a', text('new')], ['/out/b', broken]])); // biome-ignore format: short
    await expect(failing).rejects.toThrow('broken');
    expect(await read('/out/a')).toBe('old');
    await files.writeTogether(new Map(['a', 'b'].map((name) => [`/out/${name}`, text(name)])));
    expect([await read('/out/a'), await read('/out/b')]).toEqual(['a', 'b']);
    expect(await files.list('/out')).toHaveLength(2);
  });

  it.each(['out', 'out/deeper'])('writes %s once it is complete, and replaces it only with force', async (output) => {
    const { files, write, read } = open();
    const request = { output, source: 'in' };
    const fill = (content: string) => async (partial: string) => {
      await write(`${partial}/sub/x`, content);
      expect(await files.kindOf(`/${output}/sub`)).toBe(content === 'one' ? undefined : 'folder');
      if (content === 'broken') throw new Error('broken');
    };
    await files.buildFolder(request, fill('one'));
    await expect(files.buildFolder(request, fill('two'))).rejects.toThrow(OptionError);
    await expect(files.buildFolder({ ...request, force: true }, fill('broken'))).rejects.toThrow('broken');
    expect(await read(`/${output}/sub/x`)).toBe('one');
    await files.buildFolder({ ...request, force: true }, fill('two'));
    expect(await read(`/${output}/sub/x`)).toBe('two');
    expect((await files.list(`/${output}`)).map(({ name }) => name)).toEqual([MANIFEST, 'sub']);
    await write(`/${output}/mine`, 'mine');
    const again = files.buildFolder({ ...request, force: true }, fill('three'));
    await expect(again).rejects.toThrow(/does not list mine/);
    expect([await read(`/${output}/sub/x`), await read(`/${output}/mine`)]).toEqual(['two', 'mine']);
  });

  it('keeps a file that is added to the folder while a new one is built', async () => {
    const { files, write, read } = open();
    const request = { output: 'out', source: 'in', force: true };
    const built = files.buildFolder(request, () => write('/out/mine', 'mine'));
    await expect(built).rejects.toThrow(/holds mine, and no/);
    expect(await read('/out/mine')).toBe('mine');
    expect(await files.list('/out')).toHaveLength(1);
  });

  it('refuses an output that overlaps the model, is a file, or is outside all folders', async () => {
    const { files, write } = open();
    await write('/out/file', '');
    const check = (output: string) => files.checkOutput({ output, source: 'in' });
    for (const output of ['in', 'in/deeper', 'out/file', 'elsewhere', ' '])
      await expect(check(output)).rejects.toThrow(OptionError);
    expect(await check('out/new')).toBe('/out/new');
  });

  describe('concurrent calls', () => {
    it('are refused for the same output, but not for others', async () => {
      const { files, write } = open();
      const request = { output: 'out/a', source: 'in' };
      const outcome = await files.buildFolder(request, async (partial) => {
        await write(`${partial}/x`, 'one');
        await expect(files.buildFolder(request, async () => 2)).rejects.toThrow(/Another call, page or worker writes/);
        return files.buildFolder({ ...request, output: 'out/b' }, async () => 3);
      });
      expect(outcome).toBe(3);
    });

    it('do not replace files that another call has written meanwhile', async () => {
      const { files, write, read } = open();
      const request = { output: 'out', source: 'in' };
      const late = files.buildFolder(request, () => write('/out/x', 'of another'));
      await expect(late).rejects.toThrow('holds x, and no fang-prune-files.json');
      expect(await read('/out/x')).toBe('of another');
    });
  });
});

it('reads the files of a chosen folder by paths without its name', async () => {
  const chosen = (webkitRelativePath: string) => new File(['text'], webkitRelativePath.split('/').pop()!, {});
  const files = ['model/config.json', 'model/onnx/model.onnx'].map((path) =>
    Object.defineProperty(chosen(path), 'webkitRelativePath', { value: path }),
  );
  const opened = createWebFiles({ model: files });
  expect((await opened.open(opened.resolve('model', 'onnx/model.onnx')))?.byteLength).toBe(4);
  expect(await opened.kindOf('/model/config.json')).toBe('file');
});
