import type * as Library from '@huggingface/hub';
import { HubError, ModelFormatError } from '../errors.js';
import { normaliseRelativePath } from '../onnx/relative-path.js';
import { isCommit } from '../options/model-id.js';
import type { HubCommit, HubFile, HubSettings, HubStore } from '../runtime/hub-store.js';
import { boundAnswer, createHubFetch, type HubFetchOptions, limitsOf } from './hub-fetch.js';

/** A model at a revision, as the Hub lists it. */
export interface HubModel extends HubCommit {
  /** Licence in its card, such as `apache-2.0`. */
  readonly license: string | undefined;
  readonly isPrivate: boolean;
}

/** Requests to the Hub for one repository. */
export interface HubClient {
  /** @throws HubError */
  readModel(revision: string): Promise<HubModel>;
  /** All files of a commit. @throws HubError; ModelFormatError for names that no repository has. */
  listFiles(commit: string): Promise<readonly HubFile[]>;
  /** Response with a file from byte `start`. @throws HubError */
  openFile(commit: HubCommit, file: HubFile, start: number, signal: AbortSignal): Promise<Response>;
  /** Creates the repository. @throws HubError */
  createRepo(choice: { readonly isPrivate: boolean }): Promise<void>;
}

/** Repositories of models have tens of files; those with training checkpoints have a few thousand. */
const MAX_FILES = 20_000;
const MAX_PATH_LENGTH = 1024;
const HASH = { sha256: /^[0-9a-f]{64}$/, 'git-blob': /^[0-9a-f]{40}$/ } as const;

export async function createHubClient(
  repo: string,
  { settings, loadClient }: Pick<HubStore, 'settings' | 'loadClient'>,
  control: Pick<HubFetchOptions, 'signal' | 'onWait'> = {},
): Promise<HubClient> {
  const { createRepo, listFiles, modelInfo } = (await loadClient()) as typeof Library;
  const request = createHubFetch(settings, { about: repo, ...control });
  const options = {
    hubUrl: settings.endpoint,
    async fetch(input, init) {
      // Each page of a listing contains the URL of the next one.
      if (new URL(String(input)).origin !== new URL(settings.endpoint).origin)
        throw new HubError(
          `${settings.endpoint} redirects requests elsewhere: ${String(input)}. Check ${settings.names.endpoint}.`,
        );
      return boundAnswer(await request(input, init), settings, repo);
    },
  } satisfies { readonly hubUrl: string; readonly fetch: typeof fetch };
  return {
    readModel: (revision) =>
      asHubError(repo, async () => {
        const found = await modelInfo({ name: repo, revision, additionalFields: ['sha', 'cardData'], ...options });
        if (!isCommit(found.sha)) throw new HubError(`${settings.endpoint} returned no commit of ${repo}@${revision}.`);
        const license = found.cardData?.license as unknown;
        return {
          repo,
          commit: found.sha,
          license: typeof license === 'string' ? license : undefined,
          isPrivate: found.private === true,
        };
      }),
    listFiles: (commit) =>
      asHubError(repo, async () => {
        const files: HubFile[] = [];
        const paged = { ...options, fetch: boundPages(options.fetch, settings, repo) };
        for await (const entry of listFiles({ repo, revision: commit, recursive: true, ...paged })) {
          if (entry.type !== 'file') continue;
          if (files.length === MAX_FILES) throw new HubError(`${repo} has more than ${MAX_FILES} files.`);
          files.push(readEntry(repo, entry));
        }
        return files;
      }),
    async createRepo({ isPrivate }) {
      // `fetch` adds the token; the call only checks that there is one.
      const credentials = { accessToken: settings.token ?? '' };
      await createRepo({ repo, visibility: isPrivate ? 'private' : 'public', ...options, ...credentials });
    },
    openFile(commit, { path }, start, signal) {
      const place = path.split('/').map(encodeURIComponent).join('/');
      const headers = { 'accept-encoding': 'identity', ...(start > 0 && { range: `bytes=${start}-` }) };
      return request(`${settings.endpoint}/${repo}/resolve/${commit.commit}/${place}`, { headers, signal });
    },
  };
}

/** Limits the pages and the time of a listing. @throws HubError for a listing that does not end. */
function boundPages(request: typeof fetch, settings: HubSettings, repo: string): typeof fetch {
  const { listingPages, listingMs } = limitsOf(settings);
  const seen = new Set<string>();
  const start = performance.now();
  const fail = (problem: string) =>
    new HubError(`the listing of ${repo} at ${settings.endpoint} ${problem}. Check ${settings.names.endpoint}.`);
  return (input, init) => {
    const page = String(input);
    if (seen.has(page)) throw fail(`repeats its page ${page}`);
    if (seen.size === listingPages) throw fail(`has more than ${listingPages} pages`);
    if (performance.now() - start > listingMs)
      throw fail(`did not end in ${listingMs / 1000} s, after ${seen.size} pages`);
    seen.add(page);
    return request(input, init);
  };
}

interface Entry {
  readonly path: string;
  readonly size: number;
  readonly oid?: string;
  readonly lfs?: { readonly oid: string; readonly size: number };
}

/** Checks an entry, since names and hashes become file paths. @throws ModelFormatError for an invalid one. */
function readEntry(repo: string, { path, size, oid, lfs }: Entry): HubFile {
  const algorithm = lfs === undefined ? 'git-blob' : 'sha256';
  const hash = lfs?.oid ?? oid;
  const byteLength = lfs?.size ?? size;
  const fail = (problem: string) => new ModelFormatError(`${repo} lists ${JSON.stringify(path)}, ${problem}.`);
  if (typeof path !== 'string' || !isPlainPath(path)) throw fail('which is not a path inside a folder');
  if (typeof hash !== 'string' || !HASH[algorithm].test(hash)) throw fail(`whose hash is ${JSON.stringify(hash)}`);
  if (!Number.isSafeInteger(byteLength) || byteLength < 0) throw fail(`whose size is ${byteLength}`);
  return { path, byteLength, hash, algorithm };
}

/** Whether a path is valid on every system: no `..`, no control characters, no characters and device names that Windows forbids. */
export function isPlainPath(path: string): boolean {
  if (path.length > MAX_PATH_LENGTH || normaliseRelativePath(path) !== path) return false;
  return path.split('/').every((name) => name.length <= 200 && !FORBIDDEN.test(name) && !DEVICE.test(name));
}

const FORBIDDEN = /[\p{Cc}\p{Bidi_Control}<>:"|?*\\]|[. ]$/u;
const DEVICE = /^(con|prn|aux|nul|com\d|lpt\d)(\.|$)/i;

/** Converts errors of the Hub's library for malformed responses, which have no type of their own. */
async function asHubError<T>(repo: string, action: () => Promise<T>): Promise<T> {
  try {
    return await action();
  } catch (cause) {
    if (!(cause instanceof TypeError || cause instanceof SyntaxError)) throw cause;
    throw new HubError(
      `the Hub's answer for ${repo} is not valid: ${cause.message}. Check that the endpoint is the Hub.`,
      { cause },
    );
  }
}
