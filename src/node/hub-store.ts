import { createHash } from 'node:crypto';
import { createReadStream, readFileSync } from 'node:fs';
import { type FileHandle, mkdir, open, readFile, rename, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { dirname, join, relative, resolve } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';
import type { HubCommit, HubFile, HubSettings, HubStore, IncomingFile } from '../runtime/hub-store.js';
import { writing } from '../runtime/writing.js';
import { VERSION } from '../version.js';
import { checkNew } from './check-output.js';
import { tryLock } from './folder-lock.js';
import { syncFile } from './sync-file.js';
import { hasCode } from './system-error.js';

/** Polling interval while another process downloads. */
const POLL_MS = 250;

/**
 * The shared cache of the Hub's clients: `models--org--name` with `blobs`, `snapshots` and `refs`.
 * @param env environment variables
 */
export function createHubStore(env: HubEnvironment): HubStore {
  const root = resolve(hubCacheFolder(env));
  const repoFolder = (repo: string) => join(root, `models--${repo.replaceAll('/', '--')}`);
  const blobOf = ({ repo }: HubCommit, { hash }: HubFile) => join(repoFolder(repo), 'blobs', hash);
  const refOf = (repo: string, revision: string) => join(repoFolder(repo), 'refs', revision);
  const folderOf = ({ repo, commit }: HubCommit) => join(repoFolder(repo), 'snapshots', commit);
  const nameOf = (commit: HubCommit, { path }: HubFile) => join(folderOf(commit), path);
  return {
    settings: readHubSettings(env),
    loadClient: () => import('@huggingface/hub'),
    folderOf,
    async readRevision(repo, revision) {
      return (await readFile(refOf(repo, revision), 'utf8').catch(() => undefined))?.trim();
    },
    async writeRevision({ repo, commit }, revision) {
      const path = refOf(repo, revision);
      await writing(path, async () => {
        await mkdir(dirname(path), { recursive: true });
        await writeFile(path, commit);
      });
    },
    async has(commit, file) {
      const name = nameOf(commit, file);
      if ((await sizeOf(name)) === file.byteLength) return true;
      const blob = blobOf(commit, file);
      if ((await sizeOf(blob)) !== file.byteLength) return false;
      await linkBlob(blob, name);
      return true;
    },
    async receive(commit, file) {
      const blob = blobOf(commit, file);
      await writing(blob, () => mkdir(dirname(blob), { recursive: true }));
      const partial = `${blob}.incomplete`;
      const downloaded = (await sizeOf(partial)) ?? 0;
      await checkNew(partial, { name: partial, kind: 'file', byteLength: Math.max(0, file.byteLength - downloaded) });
      return receiveInto(partial, {
        downloaded,
        publish: () => publish(blob, { partial, name: nameOf(commit, file) }),
      });
    },
    async holdRepo(repo, signal) {
      const folder = join(root, '.locks', `models--${repo.replaceAll('/', '--')}`, 'fang-prune');
      await writing(folder, () => mkdir(folder, { recursive: true }));
      for (;;) {
        const found = await tryLock(folder);
        if ('release' in found) return found.release;
        await setTimeout(POLL_MS, undefined, { signal: signal as never });
      }
    },
    createHash(algorithm) {
      const hash = createHash(algorithm);
      return { update: (bytes) => void hash.update(bytes), digest: () => hash.digest('hex') };
    },
    contentOf: async (path) => pathToFileURL(path),
  };
}

interface Receiving {
  /** Bytes of an earlier partial download. */
  readonly downloaded: number;
  readonly publish: () => Promise<void>;
}

async function receiveInto(partial: string, { downloaded, publish }: Receiving): Promise<IncomingFile> {
  let file: FileHandle | undefined = await writing(partial, () => open(partial, 'a'));
  let byteLength = downloaded;
  const close = async () => {
    await file?.close();
    file = undefined;
  };
  return {
    get byteLength() {
      return byteLength;
    },
    read: () => createReadStream(partial, { end: Math.max(0, byteLength - 1) }),
    async write(bytes) {
      await writing(partial, () => file!.appendFile(bytes));
      byteLength += bytes.byteLength;
    },
    async restart() {
      await writing(partial, () => file!.truncate(0));
      byteLength = 0;
    },
    async complete() {
      await writing(partial, () => syncFile(file!));
      await close();
      await writing(partial, publish);
    },
    close,
  };
}

async function publish(blob: string, { partial, name }: { readonly partial: string; readonly name: string }) {
  await rename(partial, blob);
  await linkBlob(blob, name);
}

/** Error codes if links are not supported: Windows without developer mode, and some file systems. */
const NO_LINKS = ['EPERM', 'ENOSYS', 'ENOTSUP', 'EOPNOTSUPP'];

/** Links a blob to its name as the Hub's clients do, or moves it if links are not supported. */
async function linkBlob(blob: string, name: string): Promise<void> {
  await mkdir(dirname(name), { recursive: true });
  await rm(name, { force: true });
  await symlink(relative(dirname(name), blob), name).catch((cause) => {
    if (NO_LINKS.some((code) => hasCode(cause, code))) return rename(blob, name);
    throw cause;
  });
}

const sizeOf = async (path: string): Promise<number | undefined> =>
  stat(path).then(
    (found) => found.size,
    () => undefined,
  );

/** Environment variables of the Hub's clients. */
type HubEnvironment = Readonly<Record<string, string | undefined>>;

const ENDPOINT = 'https://huggingface.co';

/** Settings of the Hub from environment variables and the token file. @see HubSettings */
export function readHubSettings(env: HubEnvironment): HubSettings {
  const token = (env.HF_TOKEN ?? env.HUGGING_FACE_HUB_TOKEN ?? readToken(env)).trim();
  return {
    endpoint: (env.HF_ENDPOINT || ENDPOINT).replace(/\/+$/, ''),
    offline: /^(1|on|yes|true)$/i.test(env.HF_HUB_OFFLINE ?? ''),
    agent: `fang-prune/${VERSION}`,
    names: { endpoint: 'HF_ENDPOINT', token: 'HF_TOKEN' },
    ...(token !== '' && { token }),
  };
}

/** Cache folder of the Hub's clients. */
function hubCacheFolder(env: HubEnvironment): string {
  return env.HF_HUB_CACHE || env.HUGGINGFACE_HUB_CACHE || join(homeOf(env), 'hub');
}

const homeOf = (env: HubEnvironment): string =>
  env.HF_HOME || join(env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'huggingface');

function readToken(env: HubEnvironment): string {
  try {
    return readFileSync(env.HF_TOKEN_PATH || join(homeOf(env), 'token'), 'utf8');
  } catch {
    return '';
  }
}
