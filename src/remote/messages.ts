import { OptionError } from '../errors.js';
import type { JobControl, Progress } from '../progress.js';
import { reason } from '../reason.js';
import type { AnswerOf, ModelCall, RequestOf } from './model-calls.js';
import { reviveError, type SentError, toSentError } from './revive-error.js';

/** A call that is made elsewhere: in another process, or another thread. */
export interface Order {
  readonly call: ModelCall;
  readonly request: object;
}

/** What whoever makes the call is told: once the call, then whether to stop. */
export type ToCallee = Order | { readonly abort: true };

/** What it tells. */
export type FromCallee = { readonly progress: Progress } | { readonly beat: true } | Outcome;

export type Outcome = { readonly answer: unknown } | { readonly error: SentError };

/** Where messages go, and come from. */
export interface Channel {
  /** @throws when the message holds what cannot be sent */
  send(message: ToCallee): void;
  listen(hear: (message: FromCallee) => void): void;
}

/**
 * Has a call made at the other end of a channel. Progress and abortion pass through.
 * @throws OptionError when the request holds what cannot be sent (functions, an engine, a tokenizer); whatever the call throws;
 * the signal's reason when aborted.
 */
export async function askThrough<Call extends ModelCall>(
  { send, listen }: Channel,
  call: Call,
  { onProgress, signal, ...request }: object & JobControl,
): Promise<AnswerOf<Call>> {
  signal?.throwIfAborted();
  const stop = () => send({ abort: true });
  signal?.addEventListener('abort', stop, { once: true });
  try {
    const settled = new Promise<Outcome>((resolve) => {
      listen((message) => {
        if ('answer' in message || 'error' in message) resolve(message);
        else if ('progress' in message) onProgress?.(message.progress);
      });
    });
    try {
      send({ call, request });
    } catch (cause) {
      const said = `the request goes elsewhere by messages, which hold plain data alone: ${reason(cause)}`;
      throw new OptionError(said, { cause });
    }
    const outcome = await settled;
    signal?.throwIfAborted();
    if ('error' in outcome) throw reviveError(outcome.error);
    return outcome.answer as AnswerOf<Call>;
  } finally {
    signal?.removeEventListener('abort', stop);
  }
}

export interface Answering extends Pick<JobControl, 'signal'> {
  make(call: ModelCall, request: RequestOf<ModelCall>): Promise<unknown>;
  tell(message: FromCallee): void;
}

/** Makes a call that was ordered. @returns what came of it, to be told */
export function answerOrder({ call, request }: Order, { make, tell, signal }: Answering): Promise<Outcome> {
  const control = { onProgress: (progress: Progress) => tell({ progress }), signal };
  return make(call, { ...request, ...control } as RequestOf<ModelCall>).then(
    (answer) => ({ answer }),
    (error) => ({ error: toSentError(error) }),
  );
}
