import { HubError, ModelFormatError, OptionError, UnsupportedModelError } from '../errors.js';
import type { SourceFolder } from '../onnx/byte-source.js';
import { loadModel } from '../onnx/load-model.js';
import { parseModelName } from '../onnx/model-name.js';
import { isCommit, type ModelId } from '../options/model-id.js';
import type { JobControl, Progress } from '../progress.js';
import { DTYPES, type DtypeName } from '../quantisation/dtypes.js';
import type { HubOrigin } from '../report/report-schema.js';
import type { HubCommit, HubFile, HubStore } from '../runtime/hub-store.js';
import type { Files, Platform } from '../runtime/platform.js';
import { chooseModelFile, listingOf, type ModelListing } from './choose-model-file.js';
import { filesOfGenai } from './genai-files.js';
import { createHubClient } from './hub-client.js';
import { openFolder } from './open-folder.js';
import { type JsonObject, readJsonFile } from './read-json.js';
import { createReceiver } from './receive-files.js';
import { isPart, isSideFile, nameOf, variantsOf } from './side-file-names.js';

/** A downloaded model of the Hub. */
export interface HubModelLocation {
  /** Absolute path of the folder with config and tokenizer. */
  readonly root: string;
  /** Relative to `root`. */
  readonly modelFile: string;
  readonly origin: HubOrigin;
}

export interface HubModelRequest extends JobControl {
  readonly id: ModelId;
  /** Use the store only. */
  readonly offline: boolean;
}

/** Models have at most about twenty files that are not weights. */
const MAX_SIDE_FILES = 100;
/** The tokenizer.json of the largest vocabularies has about 40 MB. */
const MAX_SIDE_BYTES = 256 * 2 ** 20;

/**
 * Downloads a model of the Hub and its side files into the store.
 * @throws HubError, OptionError when there is no such model, or no space; UnsupportedModelError for a model without ONNX files;
 * ModelFormatError for contents that do not match their hashes; the signal's reason when aborted.
 */
export async function fetchHubModel(
  platform: Platform,
  store: HubStore,
  request: HubModelRequest,
): Promise<HubModelLocation> {
  return request.offline ? findInStore(platform, store, request) : download(platform, store, request);
}

async function download(
  { files }: Platform,
  store: HubStore,
  { id, onProgress, signal }: HubModelRequest,
): Promise<HubModelLocation> {
  let last: Progress = { stage: 'download', done: 0, total: 1, detail: id.repo };
  const forward = (progress: Progress) => {
    last = progress;
    onProgress?.(progress);
  };
  forward(last);
  const client = await createHubClient(id.repo, store, {
    signal,
    onWait: (detail) => onProgress?.({ ...last, detail }),
  });
  const { license, repo, commit: sha } = await client.readModel(id.revision);
  const commit: HubCommit = { repo, commit: sha };
  const listed = await client.listFiles(sha);
  const byPath = new Map(listed.map((file) => [file.path, file]));
  refuseUnexported(id, listed);
  const release = await store.holdRepo(id.repo, signal);
  try {
    const { receive } = createReceiver({ client, store, commit, onProgress: forward, signal });
    const receivePaths = (paths: readonly string[]) => receive(paths.flatMap((path) => byPath.get(path) ?? []));
    const root = store.folderOf(commit);
    await receivePaths(['config.json', 'genai_config.json']);
    const genai = await readJsonFile(files, files.resolve(root, 'genai_config.json'));
    const modelFile = await choose(id, listingFor(id, listed), genai);
    const named = new Set(filesOfGenai(genai?.model));
    const models = [modelFile, ...companionsOf(modelFile, { paths: [...byPath.keys()], named })];
    const besides = sideFiles(id, listed, named);
    refuseAmbiguous(id, [...besides.map(({ path }) => path), ...models]);
    await receive(besides);
    await receivePaths(models);
    for (const path of models) {
      onProgress?.({ stage: 'load', done: 0, total: 1 });
      await receiveExternalData(files, files.resolve(root, path), (data) =>
        receivePaths([path.slice(0, path.lastIndexOf('/') + 1) + data]),
      );
    }
    if (!isCommit(id.revision)) await store.writeRevision(commit, id.revision);
    return { root, modelFile, origin: originOf(id, commit, license) };
  } finally {
    await release();
  }
}

/** Finds the files of an earlier download. */
async function findInStore({ files }: Platform, store: HubStore, { id }: HubModelRequest): Promise<HubModelLocation> {
  const { repo, revision } = id;
  const commit = isCommit(revision) ? revision : await store.readRevision(repo, revision);
  const root = commit !== undefined && isCommit(commit) ? store.folderOf({ repo, commit }) : undefined;
  if (commit === undefined || root === undefined || (await files.kindOf(root)) !== 'folder')
    throw new OptionError(
      `${repo}@${revision} is not in the cache of the Hub, and offline nothing is downloaded: run once without --offline (offline: true, HF_HUB_OFFLINE).`,
      { option: 'model' },
    );
  const genai = await readJsonFile(files, files.resolve(root, 'genai_config.json'));
  const modelFile = await choose(id, listingOf(files, root), genai);
  return { root, modelFile, origin: originOf(id, { repo, commit }, undefined) };
}

const originOf = ({ revision }: ModelId, { repo, commit }: HubCommit, license: string | undefined): HubOrigin => ({
  repo,
  revision,
  commit,
  ...(license !== undefined && { license }),
});

function refuseUnexported({ repo, revision }: ModelId, files: readonly HubFile[]): void {
  if (files.some(({ path }) => path.endsWith('.onnx'))) return;
  const weights = files.find(({ path }) => /\.(safetensors|bin|pth?|gguf)$/.test(path));
  const found = weights === undefined ? 'no weights at all' : `${weights.path}, and no .onnx file`;
  const name = repo.slice(repo.indexOf('/') + 1);
  throw new UnsupportedModelError(
    `${repo}@${revision} has ${found}. Export it first, by: optimum-cli export onnx --model ${repo} --task text-generation-with-past ${name} ` +
      `(after: pip install optimum-onnx), and give the folder ${name}; or look for an exported one, such as onnx-community/${name}.`,
  );
}

/** Listing of the Hub's files. @throws OptionError if all models are in other folders than those of a model id. */
function listingFor({ repo, revision }: ModelId, files: readonly HubFile[]): ModelListing {
  const paths = new Set(files.map(({ path }) => path));
  const models = [...paths].filter((path) => path.endsWith('.onnx')).sort();
  const reachable = models.filter((path) => /^(onnx\/)?[^/]+$/.test(path));
  if (reachable.length === 0)
    throw new OptionError(
      `${repo}@${revision} has its models in subfolders (${models.slice(0, 8).join(', ')}), which a model id cannot name: ` +
        `download one of those, by: hf download ${repo} --include "${models[0]!.slice(0, models[0]!.lastIndexOf('/'))}/*" --local-dir model, and give its path`,
      { option: 'model' },
    );
  return {
    name: `${repo}@${revision}`,
    isFile: async (path) => paths.has(path),
    onnxFiles: async () => reachable,
  };
}

/** Chooses the model file, of the requested dtype. @throws OptionError if there is none. */
async function choose(
  { repo, revision, dtype }: ModelId,
  listing: ModelListing,
  genai: JsonObject | undefined,
): Promise<string> {
  const visible = dtype === undefined ? listing : ofDtype(listing, dtype);
  const found = await listing.onnxFiles();
  if (found.length > 0 && (await visible.onnxFiles()).length === 0)
    throw new OptionError(`${repo}@${revision} has no model in ${dtype}; it has ${found.join(', ')}.`);
  return chooseModelFile(visible, { file: undefined, genai });
}

/** Listing with only the models of one dtype. */
function ofDtype(listing: ModelListing, dtype: DtypeName): ModelListing {
  const variants: readonly string[] = [DTYPES[dtype].suffix, `_${dtype}`];
  const isOf = (path: string) => variants.includes(variantOf(path));
  return {
    name: `${listing.name}:${dtype}`,
    isFile: async (path) => isOf(path) && (await listing.isFile(path)),
    onnxFiles: async () => (await listing.onnxFiles()).filter(isOf),
  };
}

const variantOf = (path: string): string => parseModelName(nameOf(path))?.variant ?? '';

interface Companions {
  readonly paths: readonly string[];
  /** Files that `genai_config.json` names. */
  readonly named: ReadonlySet<string>;
}

/** Models of other parts next to a decoder, each in the decoder's dtype if available, else in full precision. */
function companionsOf(modelFile: string, { paths, named }: Companions): string[] {
  const folder = modelFile.slice(0, modelFile.lastIndexOf('/') + 1);
  const isDecoder = variantsOf(modelFile);
  const models = paths.filter((path) => path.endsWith('.onnx') && path !== modelFile);
  const others = models.filter((path) => path === folder + nameOf(path) && isPart(path) && !isDecoder(path));
  const order = [variantOf(modelFile), '', '_fp16'];
  const rank = (path: string) => {
    const at = order.indexOf(variantOf(path));
    return at < 0 ? order.length : at;
  };
  const best = new Map<string, string>();
  for (const path of others.sort()) {
    const stem = parseModelName(nameOf(path))!.stem;
    const known = best.get(stem);
    if (known === undefined || rank(path) < rank(known)) best.set(stem, path);
  }
  return [...new Set([...best.values(), ...models.filter((path) => named.has(path))])];
}

/** Files of a model without weights, see `isSideFile`. */
function sideFiles({ repo }: ModelId, files: readonly HubFile[], named: ReadonlySet<string>): readonly HubFile[] {
  const isWanted = (path: string) => isSideFile(path) || (named.has(path) && !path.endsWith('.onnx'));
  const found = files.filter(({ path, byteLength }) => isWanted(path) && byteLength <= MAX_SIDE_BYTES);
  if (found.length <= MAX_SIDE_FILES) return found;
  throw new ModelFormatError(
    `${repo} has ${found.length} configuration files, more than the ${MAX_SIDE_FILES} of any model. Download what you need, and give its path.`,
  );
}

/** Refuses paths that are equal on case-insensitive file systems. */
function refuseAmbiguous({ repo }: ModelId, paths: readonly string[]): void {
  const seen = new Map<string, string>();
  for (const path of paths) {
    const other = seen.get(path.toLowerCase());
    if (other !== undefined && other !== path)
      throw new ModelFormatError(`${repo} has both ${other} and ${path}, which are one file on many systems.`);
    seen.set(path.toLowerCase(), path);
  }
}

/** Receives the external data files that a model's graph names. */
async function receiveExternalData(
  files: Files,
  path: string,
  receive: (file: string) => Promise<void>,
): Promise<void> {
  const { folder, name } = files.split(path);
  const opened = openFolder(files, folder);
  const receiving: SourceFolder = {
    name: folder,
    async open(file) {
      await receive(file);
      return opened.open(file);
    },
  };
  try {
    const source = await opened.open(name);
    if (source === undefined) throw new HubError(`${path} was removed meanwhile. Try again.`);
    await loadModel(source, receiving);
  } finally {
    await opened.close();
  }
}
