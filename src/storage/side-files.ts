import { parseModelName } from '../onnx/model-name.js';
import type { Files } from '../platform/platform.js';

/** What exporters call a decoder: with and without its KV cache, and both in one. */
const DECODER_STEMS = /^(model|(decoder|model)(_with_past|_merged)+|decoder(_with_past)?_model(_merged)?)$/;

/** The same model's weights in other formats; they are dense, so they do not belong to a pruned model. */
const OTHER_WEIGHTS =
  /\.(safetensors|safetensors\.index\.json|gguf|pt|pth|h5|msgpack|ot|ort)$|^pytorch_model.*\.(bin|json)$/i;

/** What an earlier run said about the model that is pruned now. */
const EARLIER_REPORTS = /^fang-prune-(report\.(json|html)|files\.json)$/;

/** What says something about the dense model, or was measured on it: a card, pictures, tasks, texts. */
const DOCUMENTS = /(^|\/)\.git\w*$|\.(md|rst|jsonl|csv|tsv|parquet|png|jpe?g|gif|webp|svg|pdf|ipynb|log|txt)$/i;

/** Texts that a licence asks to be passed on, and vocabularies. */
const PASSED_ON = /(^|\/)((licen[cs]e|notice|copying|copyright|use_policy)[^/]*|(vocab|merges)\.txt)$/i;

/** What lies beside a model on the Hub and belongs to it: configuration, tokenizer, templates, licence. */
const CONFIGURATION = /^(onnx\/)?[\w.-]+\.(json|jinja|model|tiktoken)$|^(additional_chat_)?templates\/[\w.-]+\.jinja$/i;

/** Folders of tools, not of the model. */
const TOOL_FOLDERS = new Set(['.git', '.cache', 'node_modules']);

/** What lies beside a model, relative to its folder, with `/`. */
export interface SideFiles {
  /** Tokenizer, templates, licence, models of another part (embeddings, images, sounds) and whatever else goes with the model. */
  readonly kept: readonly string[];
  /** Other variants of the model and their weights, for they are dense; what is said of it; earlier reports. */
  readonly leftOut: readonly string[];
  /** Links that lead out of the folder. */
  readonly outside: readonly string[];
}

/**
 * Sorts a model folder's files into those that go with a pruned copy and those that do not.
 * Links to folders are not followed, links to files only inside the folder, and from a snapshot of the Hub's cache to the blobs
 * of its repository.
 * @param modelFile the model that is pruned, `replaced` its files, which the copy has anew
 */
export async function listSideFiles(
  files: Files,
  root: string,
  { modelFile, replaced }: { readonly modelFile: string; readonly replaced: ReadonlySet<string> },
): Promise<SideFiles> {
  const kept: string[] = [];
  const leftOut: string[] = [];
  const outside: string[] = [];
  const real = await files.real(root);
  const homes = [real, ...findBlobs(files, real)];
  const isVariant = variantsOf(modelFile);
  for await (const path of walkFiles(files, root)) {
    const name = nameOf(path);
    if (replaced.has(path)) continue;
    if (isVariant(name) || isLeftOut(path)) leftOut.push(path);
    else if (await leadsInto(files, homes, files.resolve(root, path))) kept.push(path);
    else outside.push(path);
  }
  return { kept, leftOut, outside };
}

const isLeftOut = (path: string): boolean =>
  OTHER_WEIGHTS.test(nameOf(path)) ||
  EARLIER_REPORTS.test(nameOf(path)) ||
  (DOCUMENTS.test(path) && !PASSED_ON.test(path));

/** Whether a file of a repository goes with its model, whichever that is: what is needed is known, and the rest may be anything. */
export const isConfiguration = (path: string): boolean =>
  (CONFIGURATION.test(path) || (PASSED_ON.test(path) && !path.includes('/'))) && !isLeftOut(path);

/** Tells the decoder that is pruned, in whatever form, from models of other parts. */
export function variantsOf(modelFile: string): (path: string) => boolean {
  const own = parseModelName(nameOf(modelFile))?.stem;
  return (path) => {
    const stem = parseModelName(nameOf(path))?.stem;
    return stem !== undefined && (stem === own || DECODER_STEMS.test(stem));
  };
}

/** `<repository>/snapshots/<revision>` consists of links to `<repository>/blobs`. */
function findBlobs(files: Files, path: string): readonly string[] {
  const { folder, name } = files.split(path);
  if (name === 'snapshots') return [files.resolve(folder, 'blobs')];
  return folder === path ? [] : findBlobs(files, folder);
}

async function leadsInto(files: Files, homes: readonly string[], path: string): Promise<boolean> {
  const real = await files.real(path);
  return homes.some((home) => files.relative(home, real) !== undefined);
}

const nameOf = (path: string): string => path.slice(path.lastIndexOf('/') + 1);

/** Files in a folder and those inside it, relative to it, with `/`; what tools keep there is left out. */
export async function* walkFiles(files: Files, root: string, inside = ''): AsyncGenerator<string> {
  for (const { name, kind } of await files.list(files.resolve(root, inside))) {
    const path = inside === '' ? name : `${inside}/${name}`;
    if (kind === 'file') yield path;
    else if (!TOOL_FOLDERS.has(name)) yield* walkFiles(files, root, path);
  }
}
