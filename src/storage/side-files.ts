import { FangPruneError } from '../errors.js';
import { loadModel } from '../onnx/load-model.js';
import { normaliseRelativePath } from '../onnx/relative-path.js';
import type { Files } from '../runtime/platform.js';
import { filesOfGenai } from './genai-files.js';
import type { ModelFolder } from './model-folder.js';
import { openFolder } from './open-folder.js';
import { isPart, isSideFile, TEMPLATE_FOLDER, variantsOf } from './side-file-names.js';

/** Folders that runtimes look into, next to the model's own. */
const FOLDERS: readonly string[] = ['', 'onnx', TEMPLATE_FOLDER];

/** Folders of tools, not of the model. */
const TOOL_FOLDERS = new Set(['.git', '.cache', 'node_modules']);

/** A model's folder, as far as it says what belongs to the model. */
export type SideFilesPlace = Pick<ModelFolder, 'root' | 'modelFile' | 'documents' | 'embeddings'>;

/** Files next to a model, relative to its folder, with `/`. */
export interface SideFiles {
  /** Files that a runtime reads: configuration, tokenizer, templates, licence, models of another part with their external data. */
  readonly included: readonly string[];
  /** Everything else in the folders that were looked into; folders only by their names, with `/` at the end. */
  readonly leftOut: readonly string[];
  /** Links of such names that lead out of the folder. */
  readonly outside: readonly string[];
}

/**
 * Finds the files of a model's folder that go with a pruned copy. The folder may be anybody's home: what is not known by name is
 * left, and only folders that a runtime reads are looked into.
 * Links to folders are not followed, links to files only inside the folder, and from a snapshot of the Hub's cache to the blobs
 * of its repository.
 * @param replaced files that the copy has again
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
 * Finds the files that make up a model's folder: its decoders in all variants, and what `listSideFiles` finds.
 */
export async function listModelFiles(files: Files, place: SideFilesPlace): Promise<readonly string[]> {
  const isDecoder = variantsOf(place.modelFile);
  const named = namedFiles(files, place);
  const isKnown = (path: string) => isSideFile(path) || named.has(path) || isPart(path) || isDecoder(path);
  return (await sortFiles(files, place, { isKnown, named, replaced: new Set() })).included;
}

interface Sorting {
  readonly isKnown: (path: string) => boolean;
  /** Files that documents name, which may lie in other folders. */
  readonly named: ReadonlySet<string>;
  readonly replaced: ReadonlySet<string>;
}

async function sortFiles(
  files: Files,
  { root, modelFile }: SideFilesPlace,
  { isKnown, named, replaced }: Sorting,
): Promise<SideFiles> {
  const real = await files.real(root);
  const homes = [real, ...findBlobs(files, real)];
  const leadsInto = async (path: string) => {
    const target = await files.real(files.resolve(root, path));
    return homes.some((home) => files.relative(home, target) !== undefined);
  };
  const included = new Set<string>();
  const outside = new Set<string>();
  const keep = async (path: string) => {
    if (replaced.has(path) || included.has(path)) return;
    if (await leadsInto(path)) included.add(path);
    else outside.add(path);
  };
  const known = new Set([...FOLDERS, folderOf(modelFile), ...[...named].map(folderOf)]);
  const seen: string[] = [];
  for (const folder of await existing(files, root, known)) {
    for (const { name, kind } of await files.list(files.resolve(root, folder))) {
      const path = folder === '' ? name : `${folder}/${name}`;
      if (kind === 'folder') seen.push(...(leadsTo(known, path) ? [] : [`${path}/`]));
      else seen.push(path);
      if (kind === 'file' && isKnown(path)) await keep(path);
    }
  }
  for (const path of [...included].filter((path) => path.endsWith('.onnx')))
    for (const data of await externalFiles(files, root, path)) await keep(data);
  return {
    included: [...included].sort(),
    leftOut: seen.filter((path) => !included.has(path) && !replaced.has(path) && !outside.has(path)).sort(),
    outside: [...outside].sort(),
  };
}

/** Those of some folders that exist, and are no links. */
async function existing(files: Files, root: string, folders: Iterable<string>): Promise<string[]> {
  const found: string[] = [];
  for (const folder of folders) {
    let inside = '';
    let isThere = true;
    for (const part of folder === '' ? [] : folder.split('/')) {
      const entries = await files.list(files.resolve(root, inside));
      isThere = entries.some(({ name, kind }) => name === part && kind === 'folder');
      if (!isThere) break;
      inside = inside === '' ? part : `${inside}/${part}`;
    }
    if (isThere) found.push(folder);
  }
  return found;
}

const leadsTo = (folders: ReadonlySet<string>, path: string): boolean =>
  [...folders].some((folder) => folder === path || folder.startsWith(`${path}/`));

/** Files of other parts that the model's documents or the call name. */
function namedFiles(files: Files, { root, modelFile, documents, embeddings }: SideFilesPlace): ReadonlySet<string> {
  const given = embeddings === undefined ? undefined : files.relative(root, embeddings);
  const named = [...filesOfGenai(documents['genai_config.json']?.model), ...(given === undefined ? [] : [given])];
  return new Set(named.filter((path) => path !== modelFile && !hasDotName(path)));
}

/** Files that the weights of a model lie in, as its graph names them; nothing where it cannot be read. */
async function externalFiles(files: Files, root: string, path: string): Promise<readonly string[]> {
  const folder = folderOf(path);
  const found = new Set<string>();
  const opened = openFolder(files, files.resolve(root, folder));
  const noting = {
    name: opened.name,
    async open(file: string) {
      const inside = normaliseRelativePath(file);
      if (inside !== undefined && !hasDotName(inside)) found.add(folder === '' ? inside : `${folder}/${inside}`);
      return opened.open(file);
    },
  };
  try {
    const source = await opened.open(path.slice(path.lastIndexOf('/') + 1));
    if (source !== undefined) await loadModel(source, noting);
  } catch (error) {
    if (!(error instanceof FangPruneError)) throw error;
  } finally {
    await opened.close();
  }
  const there: string[] = [];
  for (const file of found) if ((await files.kindOf(files.resolve(root, file))) === 'file') there.push(file);
  return there;
}

const hasDotName = (path: string): boolean => path.split('/').some((name) => name.startsWith('.'));

const folderOf = (path: string): string => path.slice(0, Math.max(0, path.lastIndexOf('/')));

/** `<repository>/snapshots/<revision>` consists of links to `<repository>/blobs`. */
function findBlobs(files: Files, path: string): readonly string[] {
  const { folder, name } = files.split(path);
  if (name === 'snapshots') return [files.resolve(folder, 'blobs')];
  return folder === path ? [] : findBlobs(files, folder);
}

/** Files in a folder and those inside it, relative to it, with `/`; what tools keep there is left out. */
export async function* walkFiles(files: Files, root: string, inside = ''): AsyncGenerator<string> {
  for (const { name, kind } of await files.list(files.resolve(root, inside))) {
    const path = inside === '' ? name : `${inside}/${name}`;
    if (kind === 'file') yield path;
    else if (!TOOL_FOLDERS.has(name)) yield* walkFiles(files, root, path);
  }
}
