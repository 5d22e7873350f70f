import { errorMessage } from '../error-message.js';
import { HubError } from '../errors.js';
import type { HubLimits, HubSettings } from '../runtime/hub-store.js';

/** Limits of waiting. The slowest usable connections have about 2 kB per second. */
const HUB_LIMITS: HubLimits = {
  answerMs: 30_000,
  paceMs: 30_000,
  paceBytes: 16 * 1024,
  listingMs: 10 * 60_000,
  listingPages: 200,
  retryMs: 1000,
  retryWaitMs: 5 * 60_000,
};
/** Largest response that is not a file, in bytes: a page of a thousand files has about 300 kB. */
const MAX_ANSWER_BYTES = 64 * 2 ** 20;
/** Tries of a request that fails by a fault of the Hub, and the wait after the first. */
const MAX_TRIES = 3;
const WAIT_MS = 300;
/** Statuses of requests to retry later. */
const BUSY: ReadonlySet<number> = new Set([429, 503]);
/** Largest number of waits of a request while the Hub is busy. */
const MAX_WAITS = 10;
/** Requests that change something may take this many times as long. */
const CHANGE_FACTOR = 10;
/** Least speed of uploads, for the time limit. */
const SENT_BYTES_PER_MS = 10;

/** Options of a `fetch` for the Hub. */
export interface HubFetchOptions {
  /** Subject of the request, `org/name`, for messages. */
  readonly about: string;
  readonly signal?: AbortSignal | undefined;
  /** Called when the Hub asks to wait. */
  readonly onWait?: ((detail: string) => void) | undefined;
}

/**
 * Creates a `fetch` for the Hub. It sends the token only to the Hub's origin, retries after faults of the Hub and after the
 * waits that it asks for, limits the time until a response begins, and throws a HubError with advice for a refusal.
 */
export function createHubFetch(settings: HubSettings, { about, signal, onWait }: HubFetchOptions): typeof fetch {
  const { endpoint, token, agent, names } = settings;
  const { answerMs, retryMs, retryWaitMs } = limitsOf(settings);
  checkSettings(settings);
  const request = async (input: string | URL | Request, init: RequestInit): Promise<Response> => {
    const limitMs = isReadOnly(init) ? answerMs : CHANGE_FACTOR * answerMs + sizeOf(init.body) / SENT_BYTES_PER_MS;
    const late = new HubError(`${endpoint} does not answer for ${about}: no data in ${formatSeconds(limitMs)}.`);
    const { signal: stop, end } = abortAfter(limitMs, late, init.signal ?? undefined);
    try {
      return await fetch(input, { ...init, signal: stop });
    } catch (cause) {
      signal?.throwIfAborted();
      if (init.signal?.aborted) throw init.signal.reason;
      if (cause === late) throw late;
      throw new HubError(
        `cannot reach ${endpoint} for ${about}: ${reasonOf(cause)}. Check the connection and ${names.endpoint}, or add --offline (offline: true) to use the files of an earlier download.`,
        { cause },
      );
    } finally {
      end();
    }
  };
  return async (input, init = {}) => {
    const url = new URL(typeof input === 'object' && 'url' in input ? input.url : input);
    const headers = new Headers(init.headers);
    if (agent !== undefined) headers.set('user-agent', agent);
    if (token !== undefined && url.origin === new URL(endpoint).origin) headers.set('authorization', `Bearer ${token}`);
    const given = { ...init, headers, signal: init.signal ?? signal ?? null };
    for (let tries = 1, waits = 0, waitedMs = 0; ; ) {
      const isLast = !isReadOnly(init) || tries === MAX_TRIES;
      const response = await request(input, given).catch((error) => {
        if (isLast || !(error instanceof HubError)) throw error;
        return undefined;
      });
      if (response?.ok) return response;
      if (response !== undefined && isBusy(response, init)) {
        const ms = Math.max(retryMs, retryAfterMs(response) ?? retryMs * 2 ** waits);
        if (waits === MAX_WAITS || waitedMs + ms > retryWaitMs)
          throw await refuse(response, about, settings, { ms, waitedMs });
        await response.body?.cancel().catch(() => undefined);
        onWait?.(`${endpoint} asks to wait ${formatSeconds(ms)} (${response.status})`);
        await wait(ms, given.signal ?? undefined);
        waits += 1;
        waitedMs += ms;
        continue;
      }
      if (response !== undefined && (isLast || response.status < 500)) throw await refuse(response, about, settings);
      await response?.body?.cancel().catch(() => undefined);
      await wait(WAIT_MS * 3 ** (tries - 1), given.signal ?? undefined);
      tries += 1;
    }
  };
}

/** Refuses settings that `fetch` refuses too, whose message would contain the token. @throws HubError */
function checkSettings({ endpoint, token, names }: HubSettings): void {
  if (!URL.canParse(endpoint) || !/^https?:$/.test(new URL(endpoint).protocol))
    throw new HubError(
      `${names.endpoint} is ${JSON.stringify(endpoint)}; expected an address such as https://huggingface.co.`,
    );
  if (token !== undefined && !/^[\x21-\x7e]+$/.test(token))
    throw new HubError(
      `${names.token} contains a space, a line break or another character that no token has. Set it again.`,
    );
}

export const limitsOf = ({ limits }: HubSettings): HubLimits => ({ ...HUB_LIMITS, ...limits });

const isReadOnly = ({ method = 'GET' }: RequestInit): boolean => method === 'GET';

/** Whether a request may be repeated later: the Hub did not process it (429), or it changes nothing. */
function isBusy({ status }: Response, init: RequestInit): boolean {
  const { body } = init;
  const mayRepeat = body === undefined || body === null || typeof body === 'string' || body instanceof Blob;
  return BUSY.has(status) && mayRepeat && (status === 429 || isReadOnly(init));
}

/** `Retry-After` (seconds or a date) in milliseconds; undefined if absent. */
function retryAfterMs({ headers }: Response): number | undefined {
  const header = headers.get('retry-after')?.trim() ?? '';
  if (/^\d+(\.\d+)?$/.test(header)) return Number(header) * 1000;
  const date = Date.parse(header);
  return Number.isNaN(date) ? undefined : Math.max(0, date - Date.now());
}

/** Bytes that are sent before a response can begin. */
function sizeOf(body: RequestInit['body']): number {
  if (typeof body === 'string') return body.length;
  return body instanceof Blob ? body.size : 0;
}

const formatSeconds = (ms: number): string => `${Math.ceil(ms / 100) / 10} s`;

/** A signal that is aborted with another, or after some time until `end`. */
function abortAfter(ms: number, error: HubError, signal: AbortSignal | undefined) {
  const stop = new AbortController();
  const abort = () => stop.abort(signal?.reason);
  if (signal?.aborted) abort();
  signal?.addEventListener('abort', abort, { once: true });
  const timer = setTimeout(() => stop.abort(error), ms);
  // The listener remains, since the signal also aborts reading the body.
  return { signal: stop.signal, end: () => clearTimeout(timer) };
}

/** Reads an entire response. @param about subject of the request @throws HubError when it is too long or too slow. */
export async function boundAnswer(response: Response, settings: HubSettings, about: string): Promise<Response> {
  const { endpoint } = settings;
  const pieces: Uint8Array<ArrayBuffer>[] = [];
  let byteLength = 0;
  const fail = (problem: string) => new HubError(`the answer of ${endpoint} for ${about} ${problem}. Try again later.`);
  try {
    for await (const piece of piecesOf(response, { ...limitsOf(settings), fail })) {
      byteLength += piece.byteLength;
      if (byteLength > MAX_ANSWER_BYTES)
        throw new HubError(`the Hub answers with more than ${MAX_ANSWER_BYTES} bytes. Check that it is the Hub.`);
      pieces.push(piece);
    }
  } catch (error) {
    if (error instanceof HubError || Object(error).name === 'AbortError') throw error;
    if (!(error instanceof TypeError)) throw error;
    throw new HubError(`the answer of ${endpoint} for ${about} was cut: ${reasonOf(error)}. Try again.`, {
      cause: error,
    });
  }
  return new Response(new Blob(pieces), response);
}

/** Least speed of a response. */
export interface Pace extends Pick<HubLimits, 'paceMs' | 'paceBytes'> {
  /** Creates the error of a slow response. @param problem predicate of the message */
  fail(problem: string): Error;
}

/** Body of a response, piece by piece. @throws the error of `fail` for a body that is too slow. */
export async function* piecesOf(
  { body }: Response,
  { paceMs, paceBytes, fail }: Pace,
): AsyncGenerator<Uint8Array<ArrayBuffer>> {
  const reader = body?.getReader();
  if (reader === undefined) return;
  const close = () => reader.cancel().catch(() => undefined);
  let slow: Error | undefined;
  let isAwaited = false;
  let byteLength = 0;
  const checkPace = () => {
    if (isAwaited && byteLength < paceBytes) {
      slow = fail(`came too slowly: ${byteLength} bytes in ${formatSeconds(paceMs)}`);
      // Ends the pending read.
      void close();
    }
    byteLength = 0;
  };
  const timer = setInterval(checkPace, paceMs);
  try {
    for (;;) {
      isAwaited = true;
      const next = await reader.read();
      isAwaited = false;
      if (slow !== undefined) throw slow;
      if (next.done) return;
      byteLength += next.value.byteLength;
      yield next.value;
    }
  } finally {
    clearInterval(timer);
    await close();
  }
}

/** Waits. @throws the signal's reason when it is aborted meanwhile. */
export async function wait(ms: number, signal: AbortSignal | undefined): Promise<void> {
  signal?.throwIfAborted();
  await new Promise<void>((resolve, reject) => {
    const stop = () => {
      clearTimeout(timer);
      reject(signal?.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener('abort', stop);
      resolve();
    }, ms);
    signal?.addEventListener('abort', stop, { once: true });
  });
}

/** Error with advice for a refusal, by the Hub's error code and the status. */
async function refuse(
  response: Response,
  about: string,
  settings: HubSettings,
  waiting?: { readonly ms: number; readonly waitedMs: number },
): Promise<HubError> {
  const { endpoint, token, names } = settings;
  const { status, headers } = response;
  const code = headers.get('x-error-code') ?? '';
  const reason = headers.get('x-error-message') ?? (await readRefusal(response, settings, about));
  const place = `${endpoint}/${about}`;
  const fail = (message: string) => new HubError(message, { status });
  if (code === 'GatedRepo')
    return fail(
      `${place} is gated: ask for access on that page, and set ${names.token} to a token of that account (${status}).`,
    );
  if (code === 'RevisionNotFound') return fail(`${place} has no such revision (${status}: ${reason}).`);
  if (code === 'EntryNotFound') return fail(`${place} has no such file (${status}: ${reason}).`);
  if (status === 401 && token !== undefined && code !== 'RepoNotFound')
    return fail(
      `${endpoint} refuses the token (${status}: ${reason}). Set ${names.token} to a valid one, or leave it out.`,
    );
  if ([401, 403, 404].includes(status)) {
    const remedy = token === undefined ? `for a private one set ${names.token}` : 'check what the token may do';
    return fail(
      `${endpoint} has no ${about}, or does not let you see or change it (${status}: ${reason}): check the name; ${remedy}.`,
    );
  }
  if (waiting !== undefined) {
    const { ms, waitedMs } = waiting;
    const remedy = token === undefined ? `, or set ${names.token}` : '';
    return fail(
      `${endpoint} ${status === 429 ? 'limits the rate of requests' : 'is busy'} (${status}) and asks to wait ${formatSeconds(ms)} more, after ${formatSeconds(waitedMs)} of waiting. Try again later${remedy}.`,
    );
  }
  return fail(`${endpoint} answers ${status} for ${about}: ${reason}. Try again later.`);
}

async function readRefusal(response: Response, settings: HubSettings, about: string): Promise<string> {
  const text = await boundAnswer(response, settings, about)
    .then((answer) => answer.text())
    .catch(() => '');
  try {
    const { error, message } = JSON.parse(text) as Record<string, unknown>;
    return String(error ?? message ?? response.statusText);
  } catch {
    return text.slice(0, 200) || response.statusText;
  }
}

/** Message of the cause if there is one: undici's own is only "fetch failed". */
export function reasonOf(cause: unknown): string {
  const inner = typeof cause === 'object' && cause !== null && 'cause' in cause ? cause.cause : undefined;
  return inner === undefined ? errorMessage(cause) : errorMessage(inner) || String(Object(inner).code ?? cause);
}
