import type { ChosenFile, PageFolder } from 'fang-prune';

/** A model that was chosen, and what to call it. */
export interface ChosenModel {
  readonly name: string;
  readonly folder: PageFolder;
}

const BUNDLED = 'tiny-llama';
const BUNDLED_FILES = [
  'config.json',
  'generation_config.json',
  'tokenizer.json',
  'tokenizer_config.json',
  'onnx/model.onnx',
];

/** The model that comes with this page. */
export async function fetchBundled(): Promise<ChosenModel> {
  const fetchFile = async (path: string) => {
    const response = await fetch(`./${BUNDLED}/${path}`);
    if (!response.ok) throw new Error(`${path} of the bundled model is missing (${response.status}).`);
    return [path, await response.blob()] as const;
  };
  return { name: BUNDLED, folder: new Map(await Promise.all(BUNDLED_FILES.map(fetchFile))) };
}

/** A model of the Hugging Face Hub, `org/name`. */
export function fromHub(id: string): ChosenModel {
  return { name: id.replace(/^.*\//, '').replaceAll(/[@:]/g, '-'), folder: id };
}

/** A folder of an `<input webkitdirectory>`. */
export function fromInput(files: FileList): ChosenModel {
  const list: readonly ChosenFile[] = [...files];
  return { name: files[0]!.webkitRelativePath.split('/')[0] || 'the folder', folder: list };
}

/** A folder that was dropped: a handle where the browser gives one, else its files. */
export async function fromDrop({ items }: DataTransfer): Promise<ChosenModel> {
  const item = items[0] as (DataTransferItem & { getAsFileSystemHandle?(): Promise<FileSystemHandle> }) | undefined;
  const entry = item?.webkitGetAsEntry();
  if (!entry?.isDirectory) throw new Error('That was no folder. Drop the folder that holds config.json.');
  const handle = await item?.getAsFileSystemHandle?.();
  if (handle !== undefined) return { name: handle.name, folder: handle as FileSystemDirectoryHandle };
  return { name: entry.name, folder: await filesOf(entry as FileSystemDirectoryEntry) };
}

/** All files of a dropped folder, by path. */
async function filesOf(root: FileSystemDirectoryEntry): Promise<Map<string, File>> {
  const files = new Map<string, File>();
  const walk = async (folder: FileSystemDirectoryEntry, path: string): Promise<void> => {
    for (const entry of await entriesOf(folder)) {
      if (entry.isDirectory) await walk(entry as FileSystemDirectoryEntry, `${path}${entry.name}/`);
      else
        files.set(
          path + entry.name,
          await new Promise((done, fail) => (entry as FileSystemFileEntry).file(done, fail)),
        );
    }
  };
  await walk(root, '');
  return files;
}

/** A reader hands out a hundred at a time. */
async function entriesOf(folder: FileSystemDirectoryEntry): Promise<FileSystemEntry[]> {
  const reader = folder.createReader();
  const all: FileSystemEntry[] = [];
  while (true) {
    const some = await new Promise<FileSystemEntry[]>((done, fail) => reader.readEntries(done, fail));
    if (some.length === 0) return all;
    all.push(...some);
  }
}
