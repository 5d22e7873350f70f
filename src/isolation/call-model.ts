import { nodePlatform } from '../platform/node/node-platform.js';
import type { Platform } from '../platform/platform.js';
import { type AnswerOf, MODEL_CALLS, type ModelCall, type RequestOf } from './model-calls.js';
import { runIsolated } from './run-isolated.js';

/** Where a call works. */
export interface IsolateOption {
  /**
   * Make the whole call in a process of its own, under a watchdog: a model that ends ONNX Runtime's process, runs for ever or
   * takes all memory then ends in an EngineError. Such a call takes plain data alone: no engine, no functions. Default false.
   */
  readonly isolate?: boolean | undefined;
}

/** Makes a call in this process, or in one of its own where the request asks for it. */
export async function callModel<Call extends ModelCall>(
  call: Call,
  request: RequestOf<Call> & IsolateOption,
): Promise<AnswerOf<Call>> {
  const { isolate = false, ...given } = Object(request);
  return isolate ? runIsolated(call, given) : callHere(nodePlatform, call, given);
}

/** Makes a call in this process. */
export function callHere<Call extends ModelCall>(
  platform: Platform,
  call: Call,
  request: RequestOf<Call>,
): Promise<AnswerOf<Call>> {
  const run = MODEL_CALLS[call] as (platform: Platform, request: RequestOf<Call>) => Promise<unknown>;
  return run(platform, request) as Promise<AnswerOf<Call>>;
}
