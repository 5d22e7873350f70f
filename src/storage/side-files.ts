import { FangPruneError } from '../errors.js';
import { loadModel } from '../onnx/load-model.js';
import { normaliseRelativePath } from '../onnx/relative-path.js';
import type { Files } from '../runtime/platform.js';
import { filesOfGenai } from './genai-files.js';
import type { ModelFolder } from './model-folder.js';
import { openFolder } from './open-folder.js';
import { isPart, isSideFile, TEMPLATE_FOLDER, variantsOf } from './side-file-names.js';

/** Folders that runtimes read, in addition to the model's. */
const FOLDERS: readonly string[] = ['', 'onnx', TEMPLATE_FOLDER];

/** Folders of tools, not of the model. */
const TOOL_FOLDERS = new Set(['.git', '.cache', 'node_modules']);

/** Fields of a model's folder that determine its side files. */
export type SideFilesPlace = Pick<ModelFolder, 'root' | 'modelFile' | 'documents' | 'embeddings'>;

/** Files next to a model, relative to its folder, with `/`. */
export interface SideFiles {
  /** Files to copy: configuration, tokenizer, templates, licence, models of other parts with their external data. */
  readonly included: readonly string[];
  /** All other entries of the folders that were read; subfolders with `/` at the end. */
  readonly leftOut: readonly string[];
  /** Links with names of side files that point outside the folder. */
  readonly outside: readonly string[];
}

/**
 * Finds the files of a model's folder to copy to a pruned model. The folder may contain private files: only known names are
 * copied, and only folders that a runtime reads are listed.
 * Links to folders are not followed. Links to files are followed only inside the folder, and from a snapshot of the Hub's
 * cache to the blobs of its repository.
 * @param replaced files that the pruned model replaces
 */
export async function listSideFiles(
  files: Files,
  place: SideFilesPlace,
  replaced: ReadonlySet<string>,
): Promise<SideFiles> {
  const isDecoder = variantsOf(place.modelFile);
  const named = namedFiles(files, place);
  const isKnown = (path: string) => isSideFile(path) || named.has(path) || (isPart(path) && !isDecoder(path));
  return sortFiles(files, place, { isKnown, named, replaced });
}

/**
 * Finds all files of a model: its decoders in all variants, and the side files.
 */
export async function listModelFiles(files: Files, place: SideFilesPlace): Promise<readonly string[]> {
  const isDecoder = variantsOf(place.modelFile);
  const named = namedFiles(files, place);
  const isKnown = (path: string) => isSideFile(path) || named.has(path) || isPart(path) || isDecoder(path);
  return (await sortFiles(files, place, { isKnown, named, replaced: new Set() })).included;
}

interface Sorting {
  readonly isKnown: (path: string) => boolean;
  /** Files named by configuration files, which may be in other folders. */
  readonly named: ReadonlySet<string>;
  readonly replaced: ReadonlySet<string>;
}

async function sortFiles(
  files: Files,
  { root, modelFile }: SideFilesPlace,
  { isKnown, named, replaced }: Sorting,
): Promise<SideFiles> {
  const real = await files.real(root);
  const roots = [real, ...findBlobs(files, real)];
  const isInside = async (path: string) => {
    const target = await files.real(files.resolve(root, path));
    return roots.some((folder) => files.relative(folder, target) !== undefined);
  };
  const included = new Set<string>();
  const outside = new Set<string>();
  const add = async (path: string) => {
    if (included.has(path)) return;
    if (await isInside(path)) included.add(path);
    else outside.add(path);
  };
  const known = new Set([...FOLDERS, folderOf(modelFile), ...[...named].map(folderOf)]);
  const seen: string[] = [];
  for (const folder of await existingFolders(files, root, known)) {
    for (const { name, kind } of await files.list(files.resolve(root, folder))) {
      const path = folder === '' ? name : `${folder}/${name}`;
      if (kind === 'folder') seen.push(...(containsAny(path, known) ? [] : [`${path}/`]));
      else seen.push(path);
      if (kind === 'file' && isKnown(path) && !replaced.has(path)) await add(path);
    }
  }
  // Another part's model may have its data in the same file as the decoder.
  for (const path of [...included].filter((path) => path.endsWith('.onnx')))
    for (const data of await externalFiles(files, root, path)) await add(data);
  return {
    included: [...included].sort(),
    leftOut: seen.filter((path) => !included.has(path) && !replaced.has(path) && !outside.has(path)).sort(),
    outside: [...outside].sort(),
  };
}

/** Folders that exist and are not links. */
async function existingFolders(files: Files, root: string, folders: Iterable<string>): Promise<string[]> {
  const found: string[] = [];
  for (const folder of folders) {
    let inside = '';
    let exists = true;
    for (const part of folder === '' ? [] : folder.split('/')) {
      const entries = await files.list(files.resolve(root, inside));
      exists = entries.some(({ name, kind }) => name === part && kind === 'folder');
      if (!exists) break;
      inside = inside === '' ? part : `${inside}/${part}`;
    }
    if (exists) found.push(folder);
  }
  return found;
}

const containsAny = (path: string, folders: ReadonlySet<string>): boolean =>
  [...folders].some((folder) => folder === path || folder.startsWith(`${path}/`));

/** Files of other parts, named by `genai_config.json` or the call. */
function namedFiles(files: Files, { root, modelFile, documents, embeddings }: SideFilesPlace): ReadonlySet<string> {
  const given = embeddings === undefined ? undefined : files.relative(root, embeddings);
  const named = [...filesOfGenai(documents['genai_config.json']?.model), ...(given === undefined ? [] : [given])];
  return new Set(named.filter((path) => path !== modelFile && !hasDotName(path)));
}

/** Existing external data files of a model; empty if its graph cannot be read. */
async function externalFiles(files: Files, root: string, path: string): Promise<readonly string[]> {
  const folder = folderOf(path);
  const found = new Set<string>();
  const opened = openFolder(files, files.resolve(root, folder));
  const recording = {
    name: opened.name,
    async open(file: string) {
      const inside = normaliseRelativePath(file);
      if (inside !== undefined && !hasDotName(inside)) found.add(folder === '' ? inside : `${folder}/${inside}`);
      return opened.open(file);
    },
  };
  try {
    const source = await opened.open(path.slice(path.lastIndexOf('/') + 1));
    if (source !== undefined) await loadModel(source, recording);
  } catch (error) {
    if (!(error instanceof FangPruneError)) throw error;
  } finally {
    await opened.close();
  }
  const existing: string[] = [];
  for (const file of found) if ((await files.kindOf(files.resolve(root, file))) === 'file') existing.push(file);
  return existing;
}

const hasDotName = (path: string): boolean => path.split('/').some((name) => name.startsWith('.'));

const folderOf = (path: string): string => path.slice(0, Math.max(0, path.lastIndexOf('/')));

/** `<repository>/snapshots/<revision>` consists of links to `<repository>/blobs`. */
function findBlobs(files: Files, path: string): readonly string[] {
  const { folder, name } = files.split(path);
  if (name === 'snapshots') return [files.resolve(folder, 'blobs')];
  return folder === path ? [] : findBlobs(files, folder);
}

/** All files in a folder and its subfolders, relative to it, with `/`, except those of tools. */
export async function* walkFiles(files: Files, root: string, inside = ''): AsyncGenerator<string> {
  for (const { name, kind } of await files.list(files.resolve(root, inside))) {
    const path = inside === '' ? name : `${inside}/${name}`;
    if (kind === 'file') yield path;
    else if (!TOOL_FOLDERS.has(name)) yield* walkFiles(files, root, path);
  }
}
