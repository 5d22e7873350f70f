import { sha1 } from '@noble/hashes/legacy';
import { sha256 } from '@noble/hashes/sha2';
import { bytesToHex } from '@noble/hashes/utils';
import { OptionError } from '../errors.js';
import type { HubCommit, HubStore, IncomingFile } from '../runtime/hub-store.js';
import { writing } from '../runtime/writing.js';
import {
  type DirectoryHandle,
  type FileHandle,
  handleFolder,
  type SyncAccessHandle,
  writeInPlace,
} from './handle-folder.js';
import { retryWhileLocked } from './retry-while-locked.js';
import { HOME } from './web-files.js';

/** Settings of the Hugging Face Hub in pages. */
export interface WebHub {
  /** Address of the Hub. Default `https://huggingface.co`. */
  readonly endpoint?: string | undefined;
  /** Access token, sent only to the endpoint. Default none: public models. Users of the page can read it. */
  readonly token?: string | undefined;
}

/** Directory of Hub files in the origin's private file system. */
const HUB = '.fang-prune-hub';

const ENDPOINT = 'https://huggingface.co';

/** Bytes per hashed piece. */
const PIECE_BYTES = 4 * 2 ** 20;

/**
 * Files of the Hub in the origin's private file system: for each repository the files of commits, and the last known commit of
 * each branch. Downloaded parts of a file remain when the page is closed.
 */
export function createWebHubStore(home: DirectoryHandle, { endpoint = ENDPOINT, token }: WebHub = {}): HubStore {
  const folder = handleFolder(home);
  const repoFolder = (repo: string) => `${HUB}/models--${repo.replaceAll('/', '--')}`;
  const refOf = (repo: string, revision: string) => `${repoFolder(repo)}/refs/${revision}`;
  const snapshotOf = ({ repo, commit }: HubCommit) => `${repoFolder(repo)}/snapshots/${commit}`;
  const bytesAt = async (path: string) => {
    const source = await folder.open(path);
    return source?.read(0, source.byteLength);
  };
  return {
    settings: {
      endpoint: endpoint.replace(/\/+$/, ''),
      token,
      offline: false,
      names: { endpoint: 'hub.endpoint', token: 'hub.token' },
    },
    loadClient: () => import('./hub-library.js'),
    folderOf: (commit) => `/${HOME}/${snapshotOf(commit)}`,
    async readRevision(repo, revision) {
      const bytes = await bytesAt(refOf(repo, revision));
      return bytes && new TextDecoder().decode(bytes);
    },
    async writeRevision({ repo, commit }, revision) {
      const sink = await writing(refOf(repo, revision), () => folder.create(refOf(repo, revision)));
      await sink.write(new TextEncoder().encode(commit));
      await sink.close();
    },
    async has(commit, { path, byteLength }) {
      const source = await folder.open(`${snapshotOf(commit)}/${path}`);
      return source?.byteLength === byteLength;
    },
    async receive(commit, { path, hash }) {
      const incoming = `${repoFolder(commit.repo)}/incoming`;
      const parent = await writing(incoming, () => directoryAt(home, incoming));
      const bytes = await openInPlace(
        path,
        await writing(incoming, () => parent.getFileHandle(hash, { create: true })),
      );
      const publish = () => folder.move(`${incoming}/${hash}`, `${snapshotOf(commit)}/${path}`);
      return receiveInto(bytes, path, publish);
    },
    holdRepo: (repo, signal) => hold(`fang-prune hub ${repo}`, signal),
    createHash(algorithm) {
      const hash = { sha1, sha256 }[algorithm].create();
      return { update: (bytes) => void hash.update(bytes), digest: () => bytesToHex(hash.digest()) };
    },
    contentOf: async (path) => new Blob([new Uint8Array((await bytesAt(path.slice(HOME.length + 2)))!)]),
  };
}

async function directoryAt(home: DirectoryHandle, path: string): Promise<DirectoryHandle> {
  let found = home;
  for (const name of path.split('/')) found = await found.getDirectoryHandle(name, { create: true });
  return found;
}

async function openInPlace(path: string, file: FileHandle): Promise<SyncAccessHandle> {
  if (file.createSyncAccessHandle === undefined)
    throw new OptionError(
      `Models of the Hub are downloaded in workers, and this call runs on the page's thread. Download the model first by ` +
        'describe({ model }), or give its files.',
    );
  let opened: SyncAccessHandle | undefined;
  await retryWhileLocked(async () => {
    opened = await file.createSyncAccessHandle!();
  });
  if (opened !== undefined) return opened;
  throw new OptionError(`Cannot write ${path}: another page is downloading it. Wait until it is complete.`);
}

function receiveInto(bytes: SyncAccessHandle, path: string, publish: () => Promise<void>): IncomingFile {
  let isOpen = true;
  const close = async () => {
    if (isOpen) bytes.close();
    isOpen = false;
  };
  return {
    get byteLength() {
      return bytes.getSize();
    },
    async *read() {
      for (let at = 0; at < bytes.getSize(); at += PIECE_BYTES) {
        const piece = new Uint8Array(Math.min(PIECE_BYTES, bytes.getSize() - at));
        bytes.read(piece, { at });
        yield piece;
      }
    },
    write: (piece) => writing(path, async () => writeInPlace(bytes, piece, bytes.getSize())),
    restart: async () => bytes.truncate(0),
    async complete() {
      bytes.flush();
      await close();
      await writing(path, publish);
    },
    close,
  };
}

/** Waits for a lock, if supported. @returns a function that releases it */
function hold(name: string, signal: AbortSignal | undefined): Promise<() => Promise<void>> {
  const { locks } = globalThis.navigator ?? {};
  if (locks === undefined) return Promise.resolve(async () => undefined);
  return new Promise((resolve, reject) => {
    const held = () => new Promise<void>((release) => resolve(async () => release()));
    locks.request(name, signal === undefined ? {} : { signal }, held).catch(reject);
  });
}
