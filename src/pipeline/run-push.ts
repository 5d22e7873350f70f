import { HubError, OptionError, UnsupportedModelError } from '../errors.js';
import { normaliseRelativePath } from '../onnx/relative-path.js';
import { PUSH } from '../options/commands.js';
import { checkOptions, type OptionsOfFamilies, refusal, rowsOf } from '../options/option.js';
import type { JobControl } from '../progress.js';
import type { PruneReport } from '../report/report-schema.js';
import { MANIFEST } from '../runtime/folder-manifest.js';
import type { HubStore } from '../runtime/hub-store.js';
import type { Files, Platform } from '../runtime/platform.js';
import { chooseModelFile, listingOf } from '../storage/choose-model-file.js';
import { createHubClient, type HubModel } from '../storage/hub-client.js';
import { formatModelCard } from '../storage/model-card.js';
import { readJsonFile } from '../storage/read-json.js';
import { type ListedFile, readListed } from '../storage/read-listed.js';
import { readReport } from '../storage/read-report.js';
import { listModelFiles, type SideFilesPlace, walkFiles } from '../storage/side-files.js';
import { type FileToSend, uploadFiles } from '../storage/upload-files.js';
import { WINDOWS_FILE } from '../storage/windows-file.js';
import { formatReport, publicReport, REPORT_NAME } from '../storage/write-report.js';
import { createOverallProgress } from './overall-progress.js';

/** A folder to upload to the Hugging Face Hub. */
export interface PushRequest extends JobControl, OptionsOfFamilies<typeof PUSH> {}

/** An uploaded folder. */
export interface PushedFolder {
  readonly folder: string;
  readonly repo: string;
  /** Absent for a dry run. */
  readonly commit?: string;
  readonly url?: string;
  /** Uploaded files, except the card. */
  readonly files: readonly ListedFile[];
  /** Files that were not uploaded; `include` adds them. */
  readonly leftOut: readonly string[];
  /** The repository's `README.md`. */
  readonly card: string;
}

/** Files about a run, which may quote private text. */
const PRIVATE_FILES = new RegExp(`(^|/)(fang-prune-|${WINDOWS_FILE.replace('.', '\\.')}$)`);
const CARD = 'README.md';

/** Reports, which are written again without paths. */
const REPORTS = new RegExp(`(^|/)${REPORT_NAME}\\.(json|html)$`);

/**
 * Uploads a folder that a run wrote, in one commit, with a model card. Of the files in its manifest, those that are
 * known to belong to a model are uploaded; others need `include`.
 */
export async function runPush(platform: Platform, request: PushRequest): Promise<PushedFolder> {
  checkOptions(request, rowsOf(PUSH));
  const { files, hub } = platform;
  const { folder, repo, dryRun = false, withReport = false, include = [] } = request;
  const root = files.resolve(folder);
  const listed = await readListed(files, root, folder);
  if (listed === undefined)
    throw refusal('folder', `is ${folder}, which has no ${MANIFEST}: only folders that fang-prune wrote are pushed`);
  const known = await findKnown(files, root, listed);
  const isWanted = (path: string) => (PRIVATE_FILES.test(path) ? withReport : known.has(path));
  const included = await findIncluded(files, { root, folder, listed, include });
  const [documents, wanted] = partition(
    [...listed.filter(({ path }) => path !== CARD && !included.has(path) && isWanted(path)), ...included.values()],
    ({ path }) => REPORTS.test(path),
  );
  const reports = await publishReports(files, root, documents);
  const report = await readPublicReport(files, root, '');
  const has = (name: string) => listed.some(({ path }) => path === name);
  const card = formatModelCard({
    repo,
    baseModel: request.baseModel ?? report?.hub?.repo,
    license: request.license ?? report?.hub?.license,
    report,
    layout: has('genai_config.json') ? 'genai' : 'transformers.js',
  });
  const uploaded = [...wanted, ...reports].sort((a, b) => (a.path < b.path ? -1 : 1));
  const uploadedPaths = new Set(uploaded.map(({ path }) => path));
  const leftOut: string[] = [];
  for await (const path of walkFiles(files, root)) if (!uploadedPaths.has(path) && path !== CARD) leftOut.push(path);
  const pushed = { folder, repo, files: uploaded.map(({ path, byteLength }) => ({ path, byteLength })), leftOut, card };
  if (dryRun) return pushed;
  if (hub === undefined) throw new OptionError('this platform has no access to the Hub');
  await prepareRepo(hub, request);
  const contents = await Promise.all(
    wanted.map(async ({ path, byteLength }) => ({
      path,
      byteLength,
      content: await hub.contentOf(files.resolve(root, path)),
    })),
  );
  const page = new Blob([card]);
  const overall = createOverallProgress(() => performance.now());
  const commit = await uploadFiles({
    repo,
    branch: request.branch ?? 'main',
    store: hub,
    files: [...contents, ...reports, { path: CARD, byteLength: page.size, content: page }],
    title: request.message ?? 'Upload a model made smaller by fang-prune',
    onProgress: request.onProgress && ((progress) => request.onProgress?.(overall.add(progress))),
    signal: request.signal,
  });
  return { ...pushed, commit, url: `${hub.settings.endpoint}/${repo}` };
}

/** Finds or creates the repository. */
async function prepareRepo(hub: HubStore, request: PushRequest): Promise<void> {
  const { settings } = hub;
  const { repo, create = false, signal } = request;
  if (settings.offline) throw new HubError('HF_HUB_OFFLINE is set, so nothing is pushed. Unset it.');
  if (settings.token === undefined)
    throw new HubError(
      `pushing to ${settings.endpoint} needs a token with write permission: set HF_TOKEN, or log in by: hf auth login`,
    );
  const client = await createHubClient(repo, hub, { signal });
  const found = await client.readModel('main').catch((error: unknown): HubModel | undefined => {
    if (!(error instanceof HubError) || error.status !== 404) throw error;
    if (create) return undefined;
    throw new HubError(`${error.message} To create it, add --create (create: true).`, { cause: error, status: 404 });
  });
  if (found === undefined) return client.createRepo({ isPrivate: request.private ?? false });
  if (request.private && !found.isPrivate)
    throw refusal('private', `is set, and ${repo} exists and is public; change that on its page first`);
}

/** Listed files that belong to a model: those of the folder, and of folders in it that have a `genai_config.json`. */
async function findKnown(files: Files, root: string, listed: readonly ListedFile[]): Promise<ReadonlySet<string>> {
  const roots = listed.flatMap(({ path }) => /^(?:(.+)\/)?genai_config\.json$/.exec(path)?.[1] ?? []);
  const known = new Set<string>();
  for (const inside of ['', ...roots]) {
    const place = await describePlace(files, inside === '' ? root : files.resolve(root, inside));
    for (const path of await listModelFiles(files, place)) known.add(inside === '' ? path : `${inside}/${path}`);
  }
  return known;
}

async function describePlace(files: Files, root: string): Promise<SideFilesPlace> {
  const genai = await readJsonFile(files, files.resolve(root, 'genai_config.json'));
  // In a folder of several dtypes the models are in subfolders; other files are known by name.
  const modelFile = await chooseModelFile(listingOf(files, root), { file: undefined, genai }).catch(
    (error: unknown) => {
      if (error instanceof OptionError || error instanceof UnsupportedModelError) return 'model.onnx';
      throw error;
    },
  );
  return {
    root,
    modelFile,
    documents: genai === undefined ? {} : { 'genai_config.json': genai },
    embeddings: undefined,
  };
}

interface IncludeRequest {
  readonly root: string;
  readonly folder: string;
  readonly listed: readonly ListedFile[];
  readonly include: readonly string[];
}

/** Files of `include`. @throws OptionError for names that are not files in the folder */
async function findIncluded(
  files: Files,
  { root, folder, listed, include }: IncludeRequest,
): Promise<ReadonlyMap<string, ListedFile>> {
  const found = new Map<string, ListedFile>();
  const real = await files.real(root);
  for (const name of include) {
    const path = normaliseRelativePath(name);
    if (path === undefined) throw refusal('include', `names ${name}, which is not a path inside ${folder}`);
    if (path === CARD)
      throw refusal('include', `names ${CARD}, which push writes itself; edit it on the Hub afterwards`);
    if (path === MANIFEST) throw refusal('include', `names ${MANIFEST}, which is only for fang-prune itself`);
    const target = files.resolve(root, path);
    if ((await files.kindOf(target)) !== 'file')
      throw refusal('include', `names ${name}, and ${folder} has no such file`);
    if (files.relative(real, await files.real(target)) === undefined)
      throw refusal('include', `names ${name}, which is a link to a place outside ${folder}`);
    const source = await files.open(target);
    await source?.close();
    found.set(path, listed.find((file) => file.path === path) ?? { path, byteLength: source?.byteLength ?? 0 });
  }
  return found;
}

/** Reports without paths; pages without their JSON file are left out. */
async function publishReports(files: Files, root: string, documents: readonly ListedFile[]): Promise<FileToSend[]> {
  const published: FileToSend[] = [];
  for (const { path } of documents) {
    const report = await readPublicReport(files, root, path.slice(0, path.lastIndexOf('/') + 1));
    if (report === undefined) continue;
    const { json, page } = await formatReport(report);
    const content = new Blob([path.endsWith('.json') ? json : page]);
    published.push({ path, byteLength: content.size, content });
  }
  return published;
}

async function readPublicReport(files: Files, root: string, inside: string): Promise<PruneReport | undefined> {
  const report = await readReport(files, files.resolve(root, `${inside}${REPORT_NAME}.json`));
  return report && publicReport(files, report);
}

function partition<T>(items: readonly T[], isFirst: (item: T) => boolean): readonly [T[], T[]] {
  return [items.filter(isFirst), items.filter((item) => !isFirst(item))];
}
