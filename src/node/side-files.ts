import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';

/** ONNX files and their external data, as exporters name them. */
const ONNX_FILES = /\.onnx([._]data(_\d+)?)?$/i;

/** The same model's weights in other formats; they are dense, so they do not belong to a pruned model. */
const OTHER_WEIGHTS =
  /\.(safetensors|safetensors\.index\.json|gguf|pt|pth|h5|msgpack|ot|ort)$|^pytorch_model.*\.(bin|json)$/i;

/** What an earlier run said about the model that is pruned now. */
const EARLIER_REPORTS = /^fang-prune-report\.(json|html)$/;

/** Folders of tools, not of the model. */
const TOOL_FOLDERS = new Set(['.git', '.cache', 'node_modules']);

/** What lies beside a model, relative to its folder, with `/`. */
export interface SideFiles {
  /** Tokenizer, templates, licence and whatever else goes with the model. */
  readonly kept: readonly string[];
  /** Other variants of the model and their weights, and earlier reports. */
  readonly leftOut: readonly string[];
}

/**
 * Sorts a model folder's files into those that go with a pruned copy and those that do not.
 * Links to files are followed, links to folders are not.
 * @param replaced the model's own files, which the copy has anew
 */
export async function listSideFiles(root: string, replaced: ReadonlySet<string>): Promise<SideFiles> {
  const kept: string[] = [];
  const leftOut: string[] = [];
  for await (const path of walkFiles(root, '')) {
    const name = path.slice(path.lastIndexOf('/') + 1);
    if (replaced.has(path)) continue;
    if ([ONNX_FILES, OTHER_WEIGHTS, EARLIER_REPORTS].some((pattern) => pattern.test(name))) leftOut.push(path);
    else kept.push(path);
  }
  return { kept, leftOut };
}

async function* walkFiles(root: string, folder: string): AsyncGenerator<string> {
  const entries = await readdir(join(root, folder), { withFileTypes: true });
  for (const entry of entries.sort((a, b) => (a.name < b.name ? -1 : 1))) {
    const path = folder === '' ? entry.name : `${folder}/${entry.name}`;
    if (entry.isDirectory() && !TOOL_FOLDERS.has(entry.name)) yield* walkFiles(root, path);
    else if (entry.isFile() || (entry.isSymbolicLink() && (await isFile(join(root, path))))) yield path;
  }
}

async function isFile(path: string): Promise<boolean> {
  return stat(path).then(
    (stats) => stats.isFile(),
    () => false,
  );
}
