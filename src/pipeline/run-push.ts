import { HubError, OptionError } from '../errors.js';
import { createHubClient, type HubModel } from '../hub/hub-client.js';
import { formatModelCard } from '../hub/model-card.js';
import { uploadFiles } from '../hub/upload-files.js';
import { PUSH } from '../options/commands.js';
import { checkOptions, refusal, rowsOf } from '../options/option.js';
import { MANIFEST } from '../platform/folder-manifest.js';
import type { HubStore } from '../platform/hub-store.js';
import type { Platform } from '../platform/platform.js';
import type { JobControl } from '../progress.js';
import { type ListedFile, readListed } from '../storage/read-listed.js';
import { readReport } from '../storage/read-report.js';
import { walkFiles } from '../storage/side-files.js';
import { WINDOWS_FILE } from '../storage/windows-file.js';
import { REPORT_NAME } from '../storage/write-report.js';

/** A result that shall lie on the Hugging Face Hub. */
export interface PushRequest extends JobControl {
  /** Folder that a run wrote. */
  readonly folder: string;
  /** Where it goes, `org/name`. */
  readonly repo: string;
  /** Branch that the commit is put on. Default `main`. */
  readonly branch?: string | undefined;
  /** Make the repository where there is none. Default false. */
  readonly create?: boolean | undefined;
  /** Make it so that others do not see it. Default false. */
  readonly private?: boolean | undefined;
  /** The model that was pruned, `org/name`, for its card. Default: where the report says that it was downloaded from. */
  readonly baseModel?: string | undefined;
  /** Licence of the model, in the Hub's words, for its card. Default: the one that the pruned model had on the Hub. */
  readonly license?: string | undefined;
  /** Upload the report and calibration windows too, which quote text and name paths. Default false. */
  readonly withReport?: boolean | undefined;
  /** What the commit is called. */
  readonly message?: string | undefined;
  /** Say what would be uploaded, and ask nobody. Default false. */
  readonly dryRun?: boolean | undefined;
}

/** A folder on the Hub. */
export interface PushedFolder {
  readonly folder: string;
  readonly repo: string;
  /** Absent for a dry run. */
  readonly commit?: string;
  readonly url?: string;
  /** What was uploaded beside the card. */
  readonly files: readonly ListedFile[];
  /** What lies in the folder and was not. */
  readonly leftOut: readonly string[];
  /** The repository's `README.md`. */
  readonly card: string;
}

/** What says something about a run, and may quote text that is nobody else's business. */
const PRIVATE_FILES = new RegExp(`(^|/)(fang-prune-|${WINDOWS_FILE.replace('.', '\\.')}$)`);
const CARD = 'README.md';

/**
 * Uploads a folder that a run wrote, in one commit, with a page that says what it is. Nothing but what its manifest lists goes.
 */
export async function runPush(platform: Platform, request: PushRequest): Promise<PushedFolder> {
  checkOptions(request, rowsOf(PUSH));
  const { files, hub } = platform;
  const { folder, repo, dryRun = false, withReport = false } = request;
  const root = files.resolve(folder);
  const listed = await readListed(files, root, folder);
  if (listed === undefined)
    throw refusal('folder', `is ${folder}, which holds no ${MANIFEST}: only what a run of fang-prune wrote is pushed`);
  const isWanted = (path: string) => path !== CARD && (withReport || !PRIVATE_FILES.test(path));
  const wanted = listed.filter(({ path }) => isWanted(path));
  const report = await readReport(files, files.resolve(root, `${REPORT_NAME}.json`));
  const has = (name: string) => listed.some(({ path }) => path === name);
  const card = formatModelCard({
    repo,
    baseModel: request.baseModel ?? report?.hub?.repo,
    license: request.license ?? report?.hub?.license,
    report,
    layout: has('genai_config.json') ? 'genai' : 'transformers.js',
  });
  const sent = new Set(wanted.map(({ path }) => path));
  const leftOut: string[] = [];
  for await (const path of walkFiles(files, root)) if (!sent.has(path) && path !== CARD) leftOut.push(path);
  const pushed = { folder, repo, files: wanted, leftOut, card };
  if (dryRun) return pushed;
  if (hub === undefined) throw new OptionError('nothing can be pushed from here: this platform has no Hub');
  await prepareRepo(hub, request);
  const contents = await Promise.all(
    wanted.map(async ({ path, byteLength }) => ({
      path,
      byteLength,
      content: await hub.contentOf(files.resolve(root, path)),
    })),
  );
  const page = new Blob([card]);
  const commit = await uploadFiles({
    ...{ repo, branch: request.branch ?? 'main', store: hub },
    files: [...contents, { path: CARD, byteLength: page.size, content: page }],
    title: request.message ?? 'Upload a model made smaller by fang-prune',
    onProgress: request.onProgress,
    signal: request.signal,
  });
  return { ...pushed, commit, url: `${hub.settings.endpoint}/${repo}` };
}

/** Finds the repository, or makes it. */
async function prepareRepo(hub: HubStore, request: PushRequest): Promise<void> {
  const { settings } = hub;
  const { repo, create = false, signal } = request;
  if (settings.offline) throw new HubError('HF_HUB_OFFLINE is set, so that nothing is pushed. Unset it.');
  if (settings.token === undefined)
    throw new HubError(
      `pushing to ${settings.endpoint} needs a token that may write: set HF_TOKEN, or log in by: hf auth login`,
    );
  const client = await createHubClient(repo, hub, signal);
  const found = await client.readModel('main').catch((error: unknown): HubModel | undefined => {
    if (!(error instanceof HubError) || error.status !== 404) throw error;
    if (create) return undefined;
    throw new HubError(`${error.message} To make it, add --create (create: true).`, { cause: error, status: 404 });
  });
  if (found === undefined) return client.createRepo({ isPrivate: request.private ?? false });
  if (request.private && !found.isPrivate)
    throw refusal('private', `is asked for, and ${repo} exists and can be seen by all; change that on its page first`);
}
