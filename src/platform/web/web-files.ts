import { OptionError } from '../../errors.js';
import { checkReplaceable, type FoundFile, formatManifest, MANIFEST } from '../folder-manifest.js';
import type { Files, OutputRequest } from '../platform.js';
import { writing } from '../writing.js';
import type { WebFolder } from './web-folder.js';
import { openPlace, type WebPlace } from './web-place.js';

/** Name of the folder that relative paths lie in. */
export const HOME = 'opfs';

/**
 * Folders of a page by name. An absolute path begins with the name of its folder; there is nothing outside.
 * @param home Folder that relative paths lie in. Default: they begin with the name of a folder too.
 */
export function createWebFiles(places: Readonly<Record<string, WebPlace>>, home?: WebPlace): Files {
  const all = home === undefined ? places : { ...places, [HOME]: home };
  const folders = new Map(Object.entries(all).map(([name, place]) => [name, openPlace(place)]));
  const resolve = (...parts: readonly string[]) => resolveFrom(home === undefined ? '/' : `/${HOME}`, parts);

  const find = (path: string): { readonly folder: WebFolder; readonly inside: string } | undefined => {
    const [name = '', ...inside] = path.slice(1).split('/');
    const folder = folders.get(name);
    return folder && { folder, inside: inside.join('/') };
  };
  const need = (path: string) => {
    const found = find(path);
    if (found !== undefined) return found;
    throw new OptionError(
      `Cannot write ${path}: it lies in none of the folders given (${[...folders.keys()].join(', ')}).`,
    );
  };
  const move = (from: string, to: string) => need(to).folder.move(need(from).inside, need(to).inside);
  const remove = async (path: string) => {
    const { folder, inside } = need(path);
    if ((await folder.kindOf(inside)) !== undefined) await folder.remove(inside);
  };
  const walk = async (folder: string, { inside = '', without = '' } = {}): Promise<FoundFile[]> => {
    const found: FoundFile[] = [];
    for (const { name, kind } of await files.list(files.resolve(folder, inside))) {
      const path = files.resolve(folder, inside, name);
      if (path === without) continue;
      if (kind === 'folder') found.push(...(await walk(folder, { inside: `${inside}${name}/`, without })));
      else found.push({ path: inside + name, byteLength: (await files.open(path))?.byteLength });
    }
    return found;
  };
  const checkOwn = async (folder: string, output: string, without?: string) =>
    checkReplaceable(output, await walk(folder, { without }), await readAll(files, `${folder}/${MANIFEST}`));

  const buildIn = async <T>(partial: string, { target, request, build }: Building<T>): Promise<T> => {
    try {
      const result = await build(partial);
      const built = await walk(partial);
      const sink = await files.create(`${partial}/${MANIFEST}`);
      await sink.write(formatManifest(built)).finally(() => sink.close());
      await checkOwn(target, request.output, partial);
      for (const { name } of await files.list(target))
        if (!partial.endsWith(`/${name}`)) await remove(`${target}/${name}`);
      for (const path of [...built.map(({ path }) => path), MANIFEST])
        await writing(target, () => move(`${partial}/${path}`, `${target}/${path}`));
      return result;
    } finally {
      await remove(partial);
    }
  };

  const files: Files = {
    resolve,
    split(path) {
      const slash = path.lastIndexOf('/');
      return { folder: path.slice(0, slash) || '/', name: path.slice(slash + 1) };
    },
    relative(folder, path) {
      if (path === folder) return '';
      const start = folder.endsWith('/') ? folder : `${folder}/`;
      return path.startsWith(start) ? path.slice(start.length) : undefined;
    },
    async kindOf(path) {
      const found = find(path);
      return found?.folder.kindOf(found.inside);
    },
    async list(path) {
      const found = find(path);
      const entries = [...((await found?.folder.list(found.inside)) ?? [])];
      return entries.sort((a, b) => (a.name < b.name ? -1 : 1));
    },
    async open(path) {
      const found = find(path);
      const source = await found?.folder.open(found.inside);
      return source && { ...source, name: path, close: async () => undefined };
    },
    create: (path) => writing(path, () => need(path).folder.create(need(path).inside)),
    append: (path, { text, start, expectedBytes }) =>
      writing(path, async () => {
        const source = await files.open(path);
        const { byteLength = 0 } = source ?? {};
        if (byteLength !== expectedBytes)
          throw new Error(`it has ${byteLength} bytes, not ${expectedBytes}: something else writes there`);
        const kept = (await source?.read(0, start)) ?? new Uint8Array(0);
        const added = new TextEncoder().encode(text);
        const sink = await files.create(path);
        await sink.write(kept);
        await sink.write(added);
        await sink.close();
        return kept.byteLength + added.byteLength;
      }),
    async writeTogether(writers) {
      const suffix = `.partial-${randomName()}`;
      try {
        for (const [path, write] of writers) {
          const sink = await files.create(path + suffix);
          await write(sink).finally(() => sink.close());
        }
        for (const path of writers.keys()) await writing(path, () => move(path + suffix, path));
      } finally {
        for (const path of writers.keys()) await remove(path + suffix);
      }
    },
    async checkOutput({ output, source, force = false }) {
      if (typeof output !== 'string' || output.trim() === '') throw new OptionError('The output folder has no name.');
      const [target, from] = [resolve(output), resolve(source)];
      if (files.relative(from, target) !== undefined || files.relative(target, from) !== undefined) {
        throw new OptionError(
          `The output ${output} and the model ${source} lie in one another. Choose a folder elsewhere.`,
        );
      }
      need(target);
      for (const { name } of await files.list(rootOf(target)))
        if (name.startsWith(PARTIAL)) await unlessHeld(name, () => remove(`${rootOf(target)}/${name}`));
      if ((await files.kindOf(target)) === 'file')
        throw new OptionError(`The output ${output} is a file. Choose a folder that does not exist yet.`);
      // A folder that was given is there already, and may well be empty.
      if (!force && (await files.list(target)).length > 0)
        throw new OptionError(`The output folder ${output} exists. Choose another, or force its replacement.`);
      await checkOwn(target, output);
      return target;
    },
    async checkFile(path) {
      need(path);
      if ((await files.kindOf(path)) === 'folder')
        throw new OptionError(`Cannot write ${path}: it is a folder. Name a file.`);
    },
    real: async (path) => path,
    async stamp(path) {
      const source = await files.open(path);
      return source && `${source.byteLength} bytes`;
    },
    async buildFolder(request, build) {
      const target = await files.checkOutput(request);
      const name = `${PARTIAL}${randomName()}`;
      return holding(name, () => buildIn(`${rootOf(target)}/${name}`, { target, request, build }));
    },
  };
  return files;
}

/** A folder that is to be made. */
interface Building<T> {
  readonly target: string;
  readonly request: OutputRequest;
  build(folder: string): Promise<T>;
}

/** Begins the names of folders that are not complete. Who fills one holds a lock of its name: without it, its page was closed. */
const PARTIAL = '.partial-';

const lockOf = (name: string): string => `fang-prune ${name}`;

async function holding<T>(name: string, action: () => Promise<T>): Promise<T> {
  const { locks } = globalThis.navigator ?? {};
  return locks === undefined ? action() : locks.request(lockOf(name), action);
}

/** Nothing where someone holds the lock, or where there are no locks that would tell. */
async function unlessHeld(name: string, action: () => Promise<void>): Promise<void> {
  await globalThis.navigator?.locks?.request(lockOf(name), { ifAvailable: true }, (lock) => lock && action());
}

const rootOf = (path: string): string => `/${path.split('/')[1]}`;

function resolveFrom(start: string, parts: readonly string[]): string {
  const names: string[] = [];
  for (const part of [start, ...parts]) {
    if (part.startsWith('/')) names.length = 0;
    for (const name of part.split('/')) {
      if (name === '..') names.pop();
      else if (name !== '' && name !== '.') names.push(name);
    }
  }
  return `/${names.join('/')}`;
}

async function readAll({ open }: Files, path: string): Promise<Uint8Array | undefined> {
  const source = await open(path);
  return source?.read(0, source.byteLength);
}

const randomName = (): string => Math.random().toString(36).slice(2, 10);
