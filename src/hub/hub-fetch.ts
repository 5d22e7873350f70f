import { HubError } from '../errors.js';
import type { HubSettings } from '../platform/hub-store.js';
import { reason } from '../reason.js';

/** Largest answer that is no file, in bytes: a page of a thousand files has some 300 kB. */
const MAX_ANSWER_BYTES = 64 * 2 ** 20;
/** How often a question is asked again where the Hub is at fault, and how long after the first time. */
const MAX_TRIES = 3;
const WAIT_MS = 300;

/**
 * Makes a `fetch` for the Hub: the token goes to its address alone, questions are asked again where the Hub is at fault, and
 * what it refuses is an error that says what to do.
 * @param about what is asked for, `org/name`, for messages
 */
export function createHubFetch(settings: HubSettings, about: string, signal: AbortSignal | undefined): typeof fetch {
  const { endpoint, token, agent, names } = settings;
  const ask = async (input: string | URL | Request, init: RequestInit): Promise<Response> => {
    try {
      return await fetch(input, init);
    } catch (cause) {
      signal?.throwIfAborted();
      if (init.signal?.aborted) throw init.signal.reason;
      throw new HubError(
        `cannot reach ${endpoint} for ${about}: ${reasonOf(cause)}. Check the connection and ${names.endpoint}, or add --offline (offline: true) to take what an earlier download left.`,
        { cause },
      );
    }
  };
  return async (input, init = {}) => {
    const url = new URL(typeof input === 'object' && 'url' in input ? input.url : input);
    const headers = new Headers(init.headers);
    if (agent !== undefined) headers.set('user-agent', agent);
    if (token !== undefined && url.origin === new URL(endpoint).origin) headers.set('authorization', `Bearer ${token}`);
    const request = { ...init, headers, signal: init.signal ?? signal ?? null };
    const isQuestion = (init.method ?? 'GET') === 'GET';
    for (let tries = 1; ; tries++) {
      const isLast = !isQuestion || tries === MAX_TRIES;
      const response = await ask(input, request).catch((error) => {
        if (isLast || !(error instanceof HubError)) throw error;
        return undefined;
      });
      if (response?.ok) return response;
      if (response !== undefined && (isLast || response.status < 500)) throw await refuse(response, about, settings);
      await wait(WAIT_MS * 3 ** (tries - 1), signal);
    }
  };
}

/** An answer as JSON. @throws HubError when it is too long. */
export async function boundAnswer(response: Response): Promise<Response> {
  const pieces: Uint8Array<ArrayBuffer>[] = [];
  let byteLength = 0;
  for await (const piece of piecesOf(response)) {
    byteLength += piece.byteLength;
    if (byteLength > MAX_ANSWER_BYTES)
      throw new HubError(`the Hub answers with more than ${MAX_ANSWER_BYTES} bytes. Check that it is the Hub.`);
    pieces.push(piece);
  }
  return new Response(new Blob(pieces), response);
}

/** The body of an answer, piece by piece. */
export async function* piecesOf({ body }: Response): AsyncGenerator<Uint8Array<ArrayBuffer>> {
  const reader = body?.getReader();
  if (reader === undefined) return;
  try {
    for (let next = await reader.read(); !next.done; next = await reader.read()) yield next.value;
  } finally {
    await reader.cancel().catch(() => undefined);
  }
}

/** @throws the signal's reason when it is aborted meanwhile. */
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

/** What the Hub calls its refusals, and what to do then. */
async function refuse(response: Response, about: string, { endpoint, token, names }: HubSettings): Promise<HubError> {
  const { status, headers } = response;
  const code = headers.get('x-error-code') ?? '';
  const said = headers.get('x-error-message') ?? (await readRefusal(response));
  const place = `${endpoint}/${about}`;
  const fail = (message: string) => new HubError(message, { status });
  if (code === 'GatedRepo')
    return fail(
      `${place} is gated: ask for access on that page, and set ${names.token} to a token of that account (${status}).`,
    );
  if (code === 'RevisionNotFound') return fail(`${place} has no such revision (${status}: ${said}).`);
  if (code === 'EntryNotFound') return fail(`${place} has no such file (${status}: ${said}).`);
  if (status === 401 && token !== undefined && code !== 'RepoNotFound')
    return fail(
      `${endpoint} refuses the token (${status}: ${said}). Set ${names.token} to a valid one, or leave it out.`,
    );
  if ([401, 403, 404].includes(status)) {
    const remedy = token === undefined ? `for a private one set ${names.token}` : 'check what the token may do';
    return fail(
      `${endpoint} has no ${about}, or does not let you see or change it (${status}: ${said}): check the name; ${remedy}.`,
    );
  }
  if (status === 429)
    return fail(`${endpoint} is asked too often (${status}). Try again in a few minutes, or set ${names.token}.`);
  return fail(`${endpoint} answers ${status} for ${about}: ${said}. Try again later.`);
}

async function readRefusal(response: Response): Promise<string> {
  const text = await (await boundAnswer(response)).text().catch(() => '');
  try {
    const { error, message } = JSON.parse(text) as Record<string, unknown>;
    return String(error ?? message ?? response.statusText);
  } catch {
    return text.slice(0, 200) || response.statusText;
  }
}

/** undici says "fetch failed", and why in its cause. */
function reasonOf(cause: unknown): string {
  const inner = typeof cause === 'object' && cause !== null && 'cause' in cause ? cause.cause : undefined;
  return inner === undefined ? reason(cause) : reason(inner) || String(Object(inner).code ?? cause);
}
