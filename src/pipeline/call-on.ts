import type { JobControl } from '../progress.js';
import type { Platform } from '../runtime/platform.js';
import { type AnswerOf, CALLS, type CallName, type RequestOf } from './call-table.js';
import { guardListener } from './guard-listener.js';

/** Makes a call on a platform. If the progress listener throws, the call is aborted and rejects with that error. */
export async function callOn<Call extends CallName>(
  platform: Platform,
  call: Call,
  request: RequestOf<Call>,
): Promise<AnswerOf<Call>> {
  const run = CALLS[call].run as (platform: Platform, request: RequestOf<Call>) => Promise<unknown>;
  const { onProgress, signal, ...given } = Object(request) as RequestOf<Call> & JobControl;
  const { release, ...control } = guardListener({ onProgress, signal });
  try {
    return (await run(platform, { ...given, ...control } as RequestOf<Call>)) as AnswerOf<Call>;
  } finally {
    release();
  }
}
