import { FangPruneError, HubError, ModelFormatError } from '../errors.js';
import { sum } from '../linalg/sum.js';
import type { JobControl } from '../progress.js';
import type { HubCommit, HubFile, HubStore, IncomingFile } from '../runtime/hub-store.js';
import type { HubClient } from './hub-client.js';
import { limitsOf, piecesOf, reasonOf, wait } from './hub-fetch.js';

/** Largest number of consecutive interruptions without progress. */
const MAX_CUTS = 5;
/** Bytes between two progress reports. */
const STEP_BYTES = 2 ** 20;

/** Source and destination of downloads. */
export interface Transfer extends JobControl {
  readonly client: Pick<HubClient, 'openFile'>;
  readonly store: HubStore;
  readonly commit: HubCommit;
}

/** Downloads files that the store lacks. Progress counts all files requested so far. */
export interface Receiver {
  /**
   * @throws HubError when a download fails; ModelFormatError when contents do not match their hash; OptionError when they
   * cannot be written; the signal's reason when aborted, and partial files are kept.
   */
  receive(files: readonly HubFile[]): Promise<void>;
}

export function createReceiver(transfer: Transfer): Receiver {
  const { store, commit, onProgress, signal } = transfer;
  const sizes = new Map<string, number>();
  let total = 0;
  const onBytes = (path: string, byteLength: number) => {
    sizes.set(path, byteLength);
    const done = sum(sizes.values());
    onProgress?.({
      stage: 'download',
      done,
      total,
      detail: `${path}, ${inMegabytes(done)} of ${inMegabytes(total)} MB`,
    });
  };
  return {
    async receive(files) {
      const open = files.filter(({ path }) => !sizes.has(path));
      for (const { path, byteLength } of open) {
        sizes.set(path, 0);
        total += byteLength;
      }
      for (const file of open) {
        signal?.throwIfAborted();
        if (!(await store.has(commit, file))) await receiveFile(transfer, file, (bytes) => onBytes(file.path, bytes));
        onBytes(file.path, file.byteLength);
      }
    },
  };
}

const inMegabytes = (bytes: number): string => (bytes / 1e6).toFixed(1);

type OnBytes = (byteLength: number) => void;

async function receiveFile(transfer: Transfer, file: HubFile, onBytes: OnBytes): Promise<void> {
  const incoming = await transfer.store.receive(transfer.commit, file);
  try {
    const isResumed = incoming.byteLength > 0;
    await receiveRest(transfer, file, incoming, onBytes);
    if (!(await isComplete(transfer.store, file, incoming))) {
      // An earlier partial file may have other contents.
      await incoming.restart();
      if (isResumed) await receiveRest(transfer, file, incoming, onBytes);
      if (!isResumed || !(await isComplete(transfer.store, file, incoming))) {
        await incoming.restart();
        throw new ModelFormatError(
          `${file.path} of ${transfer.commit.repo} does not match its hash ${file.hash}. Try again.`,
        );
      }
    }
    await incoming.complete();
  } finally {
    await incoming.close();
  }
}

/** Resumes after interrupted connections, while they make progress. */
async function receiveRest(transfer: Transfer, file: HubFile, incoming: IncomingFile, onBytes: OnBytes): Promise<void> {
  const { paceBytes, retryMs } = limitsOf(transfer.store.settings);
  if (incoming.byteLength > file.byteLength) await incoming.restart();
  for (let cuts = 0; incoming.byteLength < file.byteLength; ) {
    const start = incoming.byteLength;
    try {
      await receivePart(transfer, file, incoming, onBytes);
    } catch (error) {
      transfer.signal?.throwIfAborted();
      if (!isCut(error)) throw error;
      cuts = incoming.byteLength - start >= paceBytes ? 1 : cuts + 1;
      if (cuts > MAX_CUTS) throw error instanceof CutError ? error : cutAt(transfer, file, incoming, error);
      await wait((retryMs / 2) * 2 ** (cuts - 1), transfer.signal);
    }
  }
}

async function receivePart(
  { client, store, commit, signal }: Transfer,
  file: HubFile,
  incoming: IncomingFile,
  onBytes: OnBytes,
): Promise<void> {
  const stop = new AbortController();
  const abort = () => stop.abort(signal?.reason);
  signal?.addEventListener('abort', abort, { once: true });
  const pace = {
    ...limitsOf(store.settings),
    fail: (problem: string) =>
      new CutError(`${file.path} of ${commit.repo} ${problem}. The same call resumes from there.`),
  };
  try {
    const response = await client.openFile(commit, file, incoming.byteLength, stop.signal).catch(async (error) => {
      if (!(error instanceof HubError && error.status === RANGE_REFUSED)) throw error;
      await incoming.restart();
      throw new CutError(error.message, { cause: error });
    });
    // Servers without range requests send the entire file.
    if (incoming.byteLength > 0 && !continuesAt(response, incoming.byteLength)) await incoming.restart();
    let reported = incoming.byteLength;
    for await (const piece of piecesOf(response, pace)) {
      if (incoming.byteLength + piece.byteLength > file.byteLength) {
        await incoming.restart();
        throw new ModelFormatError(
          `${file.path} of ${commit.repo} is longer than the ${file.byteLength} bytes that it should have. Try again.`,
        );
      }
      await incoming.write(piece);
      if (incoming.byteLength - reported < STEP_BYTES) continue;
      reported = incoming.byteLength;
      onBytes(reported);
    }
    if (incoming.byteLength < file.byteLength) throw cutAt({ commit }, file, incoming);
  } finally {
    signal?.removeEventListener('abort', abort);
    stop.abort();
  }
}

function continuesAt({ status, headers }: Response, start: number): boolean {
  return status === 206 && (headers.get('content-range') ?? `bytes ${start}-`).startsWith(`bytes ${start}-`);
}

/** Status of servers that refuse ranges instead of sending the entire file. */
const RANGE_REFUSED = 416;

/** Interrupted connection, which is retried. */
class CutError extends HubError {}

function cutAt({ commit }: Pick<Transfer, 'commit'>, file: HubFile, { byteLength }: IncomingFile, cause?: unknown) {
  const reason = cause === undefined ? '' : ` (${reasonOf(cause)})`;
  return new CutError(
    `the connection for ${file.path} of ${commit.repo} was cut at ${byteLength} of ${file.byteLength} bytes${reason}. The same call resumes from there.`,
    { cause },
  );
}

/** Errors of `fetch` while a body is read have no type of their own. */
const isCut = (error: unknown): boolean => error instanceof CutError || !(error instanceof FangPruneError);

async function isComplete(store: HubStore, { algorithm, hash: expected, byteLength }: HubFile, incoming: IncomingFile) {
  const hash = store.createHash(algorithm === 'sha256' ? 'sha256' : 'sha1');
  if (algorithm === 'git-blob') hash.update(new TextEncoder().encode(`blob ${byteLength}\0`));
  if (byteLength > 0) for await (const piece of incoming.read()) hash.update(piece);
  return hash.digest() === expected;
}
