import { errorMessage } from '../error-message.js';
import { OptionError } from '../errors.js';
import type { JobControl, Progress } from '../progress.js';
import type { AnswerOf, CallName, RequestOf } from './call-table.js';
import { type GuardedControl, guardListener } from './guard-listener.js';
import { reviveError, type SentError, toSentError } from './revive-error.js';

/** A call that is made elsewhere: in another process, or another thread. */
export interface RemoteCall {
  readonly call: CallName;
  readonly request: object;
}

/** Messages to the process that makes the call: first the call, then possibly an abort. */
export type ToCallee = RemoteCall | { readonly abort: true };

/** Messages from it. */
export type FromCallee = { readonly progress: Progress } | { readonly beat: true } | Outcome;

export type Outcome = { readonly answer: unknown } | { readonly error: SentError };

/** Connection to the process or worker that makes the call. */
export interface Channel {
  /** @throws for values that cannot be cloned, such as functions */
  send(message: ToCallee): void;
  listen(onMessage: (message: FromCallee) => void): void;
}

/**
 * Sends a call through a channel, and waits for its result. A listener that throws aborts the call.
 * @throws OptionError when the request contains functions, an engine or a tokenizer, which cannot be sent; the call's errors;
 * the listener's error; the signal's reason when aborted.
 */
export async function sendRequest<Call extends CallName>(
  { send, listen }: Channel,
  call: Call,
  { onProgress, signal, ...request }: object & JobControl,
): Promise<AnswerOf<Call>> {
  const control = guardListener({ onProgress, signal });
  control.signal.throwIfAborted();
  const stop = () => send({ abort: true });
  control.signal.addEventListener('abort', stop, { once: true });
  try {
    const settled = new Promise<Outcome>((resolve) => {
      listen((message) => {
        if ('answer' in message || 'error' in message) resolve(message);
        else if ('progress' in message) forwardProgress(message.progress, control);
      });
    });
    try {
      send({ call, request });
    } catch (cause) {
      const message = `the request is sent to another process or worker, so it may contain only plain data: ${errorMessage(cause)}`;
      throw new OptionError(message, { cause });
    }
    const outcome = await settled;
    control.signal.throwIfAborted();
    if ('error' in outcome) throw reviveError(outcome.error);
    return outcome.answer as AnswerOf<Call>;
  } finally {
    control.signal.removeEventListener('abort', stop);
    control.release();
  }
}

/** Ignores errors of the listener: the guarded listener has aborted the call, which then rejects with them. */
function forwardProgress(progress: Progress, { onProgress }: GuardedControl): void {
  try {
    onProgress?.(progress);
  } catch {}
}

export interface CallAnswering extends Pick<JobControl, 'signal'> {
  make(call: CallName, request: RequestOf<CallName>): Promise<unknown>;
  send(message: FromCallee): void;
}

/** Makes a requested call. @returns its result or error, as a message */
export function answerCall({ call, request }: RemoteCall, { make, send, signal }: CallAnswering): Promise<Outcome> {
  const control = { onProgress: (progress: Progress) => send({ progress }), signal };
  return make(call, { ...request, ...control } as RequestOf<CallName>).then(
    (answer) => ({ answer }),
    (error) => ({ error: toSentError(error) }),
  );
}
