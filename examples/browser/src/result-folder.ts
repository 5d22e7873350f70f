import { downloadZip } from 'client-zip';
import type { PageFolder } from 'fang-prune';

/** Where a result lies until it is saved. */
export interface ResultFolder {
  /** What `prune` takes as `out`. */
  readonly place: PageFolder;
  files(): Promise<ReadonlyMap<string, Blob>>;
}

/** A folder of the private file system, in place of an earlier one; in memory where there is none. */
export async function createResultFolder(name: string): Promise<ResultFolder> {
  const root = await navigator.storage?.getDirectory().catch(() => undefined);
  if (root === undefined) {
    const map = new Map<string, Uint8Array<ArrayBuffer>>();
    return { place: map, files: async () => new Map([...map].map(([path, bytes]) => [path, new Blob([bytes])])) };
  }
  await root.removeEntry(name, { recursive: true }).catch(() => undefined);
  const folder = await root.getDirectoryHandle(name, { create: true });
  return { place: folder, files: () => walk(folder) };
}

/** A folder in another one, by its name; calls read it as a map of files. */
export async function folderIn(outer: ResultFolder, name: string): Promise<ResultFolder> {
  const start = `${name}/`;
  const inside = [...(await outer.files())].filter(([path]) => path.startsWith(start));
  const files = new Map(inside.map(([path, file]) => [path.slice(start.length), file]));
  return { place: files, files: async () => files };
}

async function walk(folder: FileSystemDirectoryHandle, start = ''): Promise<Map<string, File>> {
  const files = new Map<string, File>();
  for await (const [name, handle] of folder.entries()) {
    if (handle.kind === 'file') files.set(start + name, await (handle as FileSystemFileHandle).getFile());
    else for (const found of await walk(handle as FileSystemDirectoryHandle, `${start}${name}/`)) files.set(...found);
  }
  return files;
}

/** Has the browser download all files as one. */
export async function downloadAll(folder: ResultFolder, name: string): Promise<void> {
  const files = await folder.files();
  const zip = downloadZip([...files].map(([path, input]) => ({ name: `${name}/${path}`, input })));
  const url = URL.createObjectURL(await zip.blob());
  const link = Object.assign(document.createElement('a'), { href: url, download: `${name}.zip` });
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

/** Copies all files into a directory that the user picks. @returns its name */
export async function saveInto(folder: ResultFolder): Promise<string> {
  const { showDirectoryPicker } = globalThis as unknown as {
    showDirectoryPicker(options: object): Promise<FileSystemDirectoryHandle>;
  };
  const target = await showDirectoryPicker({ mode: 'readwrite' });
  for (const [path, file] of await folder.files()) {
    const names = path.split('/');
    let parent = target;
    for (const name of names.slice(0, -1)) parent = await parent.getDirectoryHandle(name, { create: true });
    const handle = await parent.getFileHandle(names.at(-1)!, { create: true });
    await file.stream().pipeTo(await handle.createWritable());
  }
  return target.name;
}
