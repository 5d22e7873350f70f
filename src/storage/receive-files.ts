import { FangPruneError, HubError, ModelFormatError } from '../errors.js';
import type { JobControl } from '../progress.js';
import type { HubCommit, HubFile, HubStore, IncomingFile } from '../runtime/hub-store.js';
import type { HubClient } from './hub-client.js';
import { limitsOf, piecesOf, wait } from './hub-fetch.js';

/** How often a connection may be cut in a row without bringing much. */
const MAX_CUTS = 5;
/** Progress is told this often, in bytes. */
const STEP_BYTES = 2 ** 20;

/** Where files come from and go to. */
export interface Transfer extends JobControl {
  readonly client: Pick<HubClient, 'openFile'>;
  readonly store: HubStore;
  readonly commit: HubCommit;
}

/** Receives files into the store, those that it lacks. What was asked for grows, and with it what is told of progress. */
export interface Receiver {
  /**
   * @throws HubError when the Hub does not give them; ModelFormatError when contents are not what they should be; OptionError
   * where they cannot be written; the signal's reason when aborted, and what has come is kept.
   */
  receive(files: readonly HubFile[]): Promise<void>;
}

export function createReceiver(transfer: Transfer): Receiver {
  const { store, commit, onProgress, signal } = transfer;
  const sizes = new Map<string, number>();
  let total = 0;
  const onBytes = (path: string, byteLength: number) => {
    sizes.set(path, byteLength);
    const done = [...sizes.values()].reduce((sum, size) => sum + size, 0);
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
    const isOld = incoming.byteLength > 0;
    await receiveRest(transfer, file, incoming, onBytes);
    if (!(await isComplete(transfer.store, file, incoming))) {
      // What lay there may have been of something else.
      await incoming.restart();
      if (isOld) await receiveRest(transfer, file, incoming, onBytes);
      if (!isOld || !(await isComplete(transfer.store, file, incoming))) {
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

/** Resumes where a connection was cut, as long as they bring something. */
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
      if (cuts > MAX_CUTS) throw error;
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
    fail: (what: string) => new CutError(`${file.path} of ${commit.repo} ${what}. The same call resumes from there.`),
  };
  try {
    const response = await client.openFile(commit, file, incoming.byteLength, stop.signal);
    // Servers without ranges send all of it.
    if (incoming.byteLength > 0 && !continuesAt(response, incoming.byteLength)) await incoming.restart();
    let told = incoming.byteLength;
    for await (const piece of piecesOf(response, pace)) {
      if (incoming.byteLength + piece.byteLength > file.byteLength) {
        await incoming.restart();
        throw new ModelFormatError(
          `${file.path} of ${commit.repo} is longer than the ${file.byteLength} bytes that it should have. Try again.`,
        );
      }
      await incoming.write(piece);
      if (incoming.byteLength - told < STEP_BYTES) continue;
      told = incoming.byteLength;
      onBytes(told);
    }
    if (incoming.byteLength < file.byteLength)
      throw new CutError(
        `the connection for ${file.path} of ${commit.repo} was cut at ${incoming.byteLength} of ${file.byteLength} bytes. The same call resumes from there.`,
      );
  } finally {
    signal?.removeEventListener('abort', abort);
    stop.abort();
  }
}

function continuesAt({ status, headers }: Response, start: number): boolean {
  return status === 206 && (headers.get('content-range') ?? `bytes ${start}-`).startsWith(`bytes ${start}-`);
}

/** A connection that may be better the next time. */
class CutError extends HubError {}

/** Errors of the connection while a body comes have no type. */
const isCut = (error: unknown): boolean => error instanceof CutError || !(error instanceof FangPruneError);

async function isComplete(store: HubStore, { algorithm, hash: expected, byteLength }: HubFile, incoming: IncomingFile) {
  const hash = store.createHash(algorithm === 'sha256' ? 'sha256' : 'sha1');
  if (algorithm === 'git-blob') hash.update(new TextEncoder().encode(`blob ${byteLength}\0`));
  if (byteLength > 0) for await (const piece of incoming.read()) hash.update(piece);
  return hash.digest() === expected;
}
