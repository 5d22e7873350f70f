import { OptionError } from '../errors.js';
import type { ByteSink } from '../onnx/byte-source.js';
import { checkReplaceable, type FoundFile, formatManifest, MANIFEST } from '../runtime/folder-manifest.js';
import type { Files, OutputRequest } from '../runtime/platform.js';
import { writing } from '../runtime/writing.js';
import { lockOutput } from './lock-output.js';
import { type Commit, isPartial, sweep, writeAtomically } from './partial-folder.js';
import { randomName } from './random-name.js';
import type { WebFolder } from './web-folder.js';
import { openPlace, type WebPlace } from './web-place.js';

/** Folder name of relative paths. */
export const HOME = 'opfs';

/**
 * Folders of a page by name. An absolute path begins with the name of its folder.
 * @param home Folder of relative paths. Default: relative paths also begin with a folder's name.
 * @param run Prefix of names of incomplete files. Default: a random name.
 */
export function createWebFiles(
  places: Readonly<Record<string, WebPlace>>,
  home?: WebPlace,
  run: string = randomName(),
): Files {
  const all = home === undefined ? places : { ...places, [HOME]: home };
  const folders = new Map(Object.entries(all).map(([name, place]) => [name, openPlace(place)]));
  const resolve = (...parts: readonly string[]) => resolveFrom(home === undefined ? '/' : `/${HOME}`, parts);

  const find = (path: string): { readonly folder: WebFolder; readonly inside: string } | undefined => {
    const [name = '', ...inside] = path.slice(1).split('/');
    const folder = folders.get(name);
    return folder && { folder, inside: inside.join('/') };
  };
  const findWritable = (path: string) => {
    const found = find(path);
    if (found !== undefined) return found;
    throw new OptionError(
      `Cannot write ${path}: it is in none of the folders given (${[...folders.keys()].join(', ')}).`,
    );
  };
  /** Entries of a folder without partial folders. */
  const listComplete = async (folder: string) => (await files.list(folder)).filter(({ name }) => !isPartial(name));
  const walk = async (folder: string, inside = ''): Promise<FoundFile[]> => {
    const found: FoundFile[] = [];
    for (const { name, kind } of await listComplete(files.resolve(folder, inside))) {
      if (kind === 'folder') found.push(...(await walk(folder, `${inside}${name}/`)));
      else {
        const file = await files.open(files.resolve(folder, inside, name));
        found.push({ path: inside + name, byteLength: file?.byteLength });
      }
    }
    return found;
  };
  const write = async (path: string, fill: (sink: ByteSink) => Promise<void>) => {
    const sink = await files.create(path);
    await fill(sink).finally(() => sink.close());
  };
  /** Files that the output will replace. @throws OptionError when it exists and must not be replaced. */
  const checkFree = async ({ target, output, force }: Place) => {
    if ((await files.kindOf(target)) === 'file')
      throw new OptionError(`The output ${output} is a file. Choose a folder that does not exist yet.`);
    const found = await walk(target);
    await checkReplaceable(output, found, await readAll(files, `${target}/${MANIFEST}`));
    // A given folder always exists, and may be empty.
    if (!force && (await listComplete(target)).length > 0)
      throw new OptionError(`The output folder ${output} exists. Choose another, or force its replacement.`);
    return found;
  };
  /** Writes the manifest of a complete folder, and returns its commit. */
  const complete = async (partialFiles: string, place: Place): Promise<Commit> => {
    const { target, run: runKey } = place;
    // Checked again, since hours may have passed.
    const replaced = (await checkFree(place)).map(({ path }) => path);
    const built = await walk(partialFiles);
    await write(`${partialFiles}/${MANIFEST}`, (sink) => sink.write(formatManifest(built, runKey)));
    const paths = [...built.map(({ path }) => path), MANIFEST];
    const at = (folder: string, path: string) => findWritable(`${folder}/${path}`).inside;
    return {
      moves: paths.map((path) => [at(partialFiles, path), at(target, path)]),
      removals: replaced.filter((path) => !paths.includes(path)).map((path) => at(target, path)),
    };
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
    create: (path) => writing(path, () => findWritable(path).folder.create(findWritable(path).inside)),
    append: (path, { text, start, expectedBytes }) =>
      writing(path, async () => {
        const source = await files.open(path);
        const { byteLength = 0 } = source ?? {};
        if (byteLength !== expectedBytes)
          throw new Error(`it has ${byteLength} bytes, not ${expectedBytes}: another program writes to it`);
        const existing = (await source?.read(0, start)) ?? new Uint8Array(0);
        const added = new TextEncoder().encode(text);
        const sink = await files.create(path);
        await sink.write(existing);
        await sink.write(added);
        await sink.close();
        return existing.byteLength + added.byteLength;
      }),
    async writeTogether(writers) {
      for (const root of new Set([...writers.keys()].map(rootOf))) {
        const ownFiles = [...writers].filter(([path]) => rootOf(path) === root);
        await writeAtomically(findWritable(root).folder, run, async (partialFiles) => {
          const moves = ownFiles.map(([path], at) => [`${partialFiles}/${at}`, findWritable(path).inside] as const);
          for (const [at, [, fill]] of ownFiles.entries()) await write(`${root}/${partialFiles}/${at}`, fill);
          return [undefined, { moves, removals: [] }];
        });
      }
    },
    async checkOutput({ output, source, force = false }) {
      if (typeof output !== 'string' || output.trim() === '') throw new OptionError('The output folder has no name.');
      const [target, from] = [resolve(output), resolve(source)];
      if (files.relative(from, target) !== undefined || files.relative(target, from) !== undefined) {
        throw new OptionError(
          `The output ${output} and the model ${source} contain one another. Choose a folder elsewhere.`,
        );
      }
      await sweep(findWritable(target).folder);
      await checkFree({ target, output, force });
      return target;
    },
    async checkFile(path) {
      findWritable(path);
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
      const isHeld = request.workspace?.target === target;
      const release = isHeld ? undefined : await lockOutput(target, all[rootOf(target).slice(1)]);
      try {
        return await writeAtomically(findWritable(target).folder, run, async (partialFiles) => {
          const folder = `${rootOf(target)}/${partialFiles}`;
          const result = await build(folder);
          return [result, await complete(folder, { ...request, target })];
        });
      } finally {
        release?.();
      }
    },
  };
  return files;
}

/** A resolved output folder. */
interface Place extends Pick<OutputRequest, 'output' | 'run' | 'force'> {
  readonly target: string;
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
