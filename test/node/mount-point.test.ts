import { execFileSync } from 'node:child_process';
import { mkdir, readdir, readFile, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { nodeFiles } from '../../src/node/node-files.js';
import { hasUnfinishedRun, openWorkspace } from '../../src/node/workspace.js';
import { MANIFEST } from '../../src/runtime/folder-manifest.js';
import type { Files } from '../../src/runtime/platform.js';
import { FILE_CALLS as real, replaceFileCalls } from '../support/replace-file-calls.js';
import { itWithMounts, mountSmallDisk } from '../support/small-disk.js';
import { listFiles, useTemporaryFolder } from '../support/temporary-folder.js';

/** Error code of the file system for a rename; undefined if it succeeds. */
let renameError: (from: string, to: string) => string | undefined = () => undefined;
/** After a simulated kill nothing is removed. */
let isKilled = false;
const unlessKilled =
  <Arguments extends readonly unknown[]>(action: (...given: Arguments) => Promise<void>) =>
  async (...given: Arguments): Promise<void> => {
    if (isKilled) throw new Error('EKILLED');
    await action(...given);
  };
replaceFileCalls({
  rm: unlessKilled(real.rm),
  rmdir: unlessKilled((path: string) => real.rmdir(path)),
  unlink: unlessKilled(real.unlink),
  async rename(from: string, to: string) {
    const code = renameError(from, to);
    if (code === 'EKILLED') isKilled = true;
    if (code !== undefined) throw Object.assign(new Error(`${code}: rename`), { code });
    await real.rename(from, to);
  },
});

const folder = useTemporaryFolder();
const at = (path: string) => join(folder(), path);
afterEach(() => {
  renameError = () => undefined;
});

async function write(files: Files, path: string, text: string): Promise<void> {
  const sink = await files.create(path);
  await sink.write(new TextEncoder().encode(text)).finally(() => sink.close());
}

/** Builds the output from texts of files by path, in place of the old one. */
const build = (files: Readonly<Record<string, string>>, meanwhile?: () => Promise<unknown>) =>
  nodeFiles.buildFolder({ output: at('out'), source: at('in'), force: true }, async (partial) => {
    for (const [path, text] of Object.entries(files)) await write(nodeFiles, join(partial, path), text);
    await meanwhile?.();
  });

async function contents(path = 'out'): Promise<Readonly<Record<string, string>>> {
  const names = (await listFiles(at(path))).filter((name) => name !== MANIFEST);
  return Object.fromEntries(
    await Promise.all(names.map(async (name) => [name, await readFile(at(`${path}/${name}`), 'utf8')])),
  );
}

const ONE = { 'onnx/model.onnx': 'one', 'onnx/model.onnx_data': 'weights', 'config.json': '{}', tokenizer: 'a file' };
const TWO = { 'onnx/model.onnx': 'the second', 'config.json': '{"a":1}', 'tokenizer/a.json': 'in a folder' };

/** Cases in which a folder cannot be renamed; each returns how to undo it. */
const PLACES: Readonly<Record<string, () => () => void>> = {
  'a mounted disk': () => mountSmallDisk(at('out'), 4),
  'a bind mount': () => {
    execFileSync('mount', ['--bind', at('elsewhere'), at('out')], { stdio: 'ignore' });
    return () => void execFileSync('umount', [at('out')]);
  },
  'a folder with EBUSY': () => {
    renameError = (from) => (from === at('out') ? 'EBUSY' : undefined);
    return () => undefined;
  },
  'an overlay, with EXDEV for entire folders': () => {
    renameError = (from) => (from === at('out') || from === at('out.partial/result') ? 'EXDEV' : undefined);
    return () => undefined;
  },
};

describe.each(Object.keys(PLACES))('in %s', (place) => {
  const test = place.includes('mount') ? itWithMounts : it;
  let undo: (() => void) | undefined;
  beforeEach(async () => {
    await mkdir(at('out'));
    await mkdir(at('elsewhere'));
    undo = PLACES[place]!();
  });
  afterEach(() => undo?.());

  test('replaces an output file by file, and leaves no other files', async () => {
    await build(ONE);
    expect(await contents()).toEqual(ONE);
    await build(TWO);
    expect(await contents()).toEqual(TWO);
    const { files } = JSON.parse(await readFile(at(`out/${MANIFEST}`), 'utf8'));
    expect(files.map(({ path }: { path: string }) => path)).toEqual(Object.keys(TWO).sort());
    expect((await readdir(folder())).sort()).toEqual(['elsewhere', 'out']);
    await build(ONE);
    expect(await contents()).toEqual(ONE);
  });

  test('keeps the old files if building fails, or if the user adds a file', async () => {
    await build(ONE);
    const failing = build(TWO, () => Promise.reject(new Error('broken')));
    await expect(failing).rejects.toThrow('broken');
    await expect(build(TWO, () => writeFile(at('out/notes.txt'), 'mine'))).rejects.toThrow(/does not list notes\.txt/);
    expect(await contents()).toEqual({ ...ONE, 'notes.txt': 'mine' });
  });

  test('has all old or all new files after a kill at any rename', async () => {
    const outer = renameError;
    for (let cut = 0, isDone = false; !isDone; cut += 1) {
      renameError = outer;
      await build(ONE);
      let renames = 0;
      renameError = (from, to) => outer(from, to) ?? (renames++ >= cut ? 'EKILLED' : undefined);
      const end = await build(TWO).then(
        () => undefined,
        (error: Error) => error,
      );
      renameError = outer;
      isKilled = false;
      isDone = end === undefined;
      if (!isDone) expect(end!.message).toMatch('EKILLED');
      await nodeFiles.checkOutput({ output: at('out'), source: at('in'), force: true });
      const left = await contents();
      const isPartial = (name: string) => name.startsWith('.fang-prune.partial/');
      expect([ONE, TWO]).toContainEqual(Object.fromEntries(Object.entries(left).filter(([name]) => !isPartial(name))));
      await build(TWO);
      expect(await contents()).toEqual(TWO);
      expect((await readdir(folder())).sort()).toEqual(['elsewhere', 'out']);
      expect(cut).toBeLessThan(20);
    }
  });
});

itWithMounts('keeps the journal inside a mount point', async () => {
  await mkdir(at('out'));
  const unmount = mountSmallDisk(at('out'), 4);
  try {
    const request = { output: at('out'), key: 'a', resume: true };
    const first = await openWorkspace(request);
    await first.journal.write('kept', [1]);
    await first.close(false);
    expect(await hasUnfinishedRun(at('out'))).toBe(true);
    expect(await readdir(folder())).toEqual(['out']);
    await build(ONE);
    const again = await openWorkspace(request);
    expect(again.found).toBe('same');
    await again.close(true);
    expect(await contents()).toEqual(ONE);
  } finally {
    unmount();
  }
});

describe('the workspace of a killed run', () => {
  it('is removed, except files of the user, which are named', async () => {
    await mkdir(at('out.partial/result'), { recursive: true });
    await writeFile(at('out.partial/result/thesis.docx'), 'mine');
    await expect(build(ONE)).rejects.toThrow(
      /out\.partial is the folder .* contains result\/thesis\.docx, which no run wrote/,
    );
    expect(await contents('out.partial')).toEqual({ 'result/thesis.docx': 'mine' });
    await rename(at('out.partial/result/thesis.docx'), at('thesis.docx'));
    await build(ONE);
    expect(await contents()).toEqual(ONE);
  });

  it('may contain incomplete files of the run', async () => {
    const failing = build(ONE, async () => {
      await real.cp(at('out.partial'), at('copy'), { recursive: true });
      throw new Error('killed');
    });
    await expect(failing).rejects.toThrow('killed');
    await rename(at('copy'), at('out.partial'));
    expect(Object.keys(await contents('out.partial'))).toContain('result/onnx/model.onnx');
    await build(TWO);
    expect(await contents()).toEqual(TWO);
    expect(await readdir(folder())).toEqual(['out']);
  });

  it.each(['result', 'replaced'])('keeps a file that the user puts into %s meanwhile', async (name) => {
    await build(ONE);
    if (name === 'replaced') await rename(at('out'), at('old'));
    const failing = build(TWO, async () => {
      if (name === 'replaced') {
        await rename(at('old'), at('out.partial/replaced'));
        await writeFile(at('out.partial/replaced/mine.txt'), 'mine');
      } else await writeFile(at('out.partial/result/mine.txt'), 'mine');
      throw new Error('cut');
    });
    await expect(failing).rejects.toThrow('cut');
    const mine = name === 'replaced' ? 'out/mine.txt' : 'out.partial/result/mine.txt';
    await expect(build(TWO)).rejects.toThrow(/mine\.txt/);
    expect(await readFile(at(mine), 'utf8')).toBe('mine');
  });

  it('is refused if another folder is in place of the output', async () => {
    await build(ONE);
    await mkdir(at('out.partial'));
    await rename(at('out'), at('out.partial/replaced'));
    await mkdir(at('out'));
    await expect(build(TWO)).rejects.toThrow(
      /out\.partial\/replaced is the earlier .*out, saved by an interrupted run/,
    );
    expect(await contents('out.partial/replaced')).toEqual(ONE);
  });

  it('is recovered by one of two concurrent calls', async () => {
    for (let round = 0; round < 20; round += 1) {
      await build(ONE);
      await mkdir(at('out.partial'));
      await rename(at('out'), at('out.partial/replaced'));
      const ends = await Promise.allSettled([hasUnfinishedRun(at('out')), hasUnfinishedRun(at('out'))]);
      for (const end of ends) if (end.status === 'rejected') expect(end.reason.message).toMatch(/^Another run writes/);
      expect(await contents()).toEqual(ONE);
      expect((await readdir(folder())).sort()).toEqual(['out']);
    }
  });
});
