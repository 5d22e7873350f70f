import type { ExecutionProviderChoice } from '../runtime/platform.js';
import type { SourceOptions } from '../storage/model-folder.js';

/** Requests to a worker, with their answers. */
export interface WorkerCalls {
  /** Loads a model; to be called once, first. */
  readonly open: {
    readonly request: SourceOptions & {
      readonly model: string;
      readonly executionProvider: ExecutionProviderChoice | undefined;
    };
    readonly answer: { readonly loadMs: number; readonly hasCache: boolean };
  };
  /** Reads a prompt. */
  readonly prefill: { readonly request: { readonly promptLength: number }; readonly answer: { readonly ms: number } };
  /** Reads a prompt, then times generating token by token. */
  readonly decode: {
    readonly request: { readonly promptLength: number; readonly newTokens: number };
    readonly answer: { readonly ms: number };
  };
  /** Times the two matrix products of an FFN of one width, for a prompt and for one token. */
  readonly probe: {
    readonly request: {
      readonly hiddenSize: number;
      readonly width: number;
      readonly promptLength: number;
      readonly executionProvider: ExecutionProviderChoice | undefined;
    };
    readonly answer: { readonly prefillMs: number; readonly decodeMs: number };
  };
  /** Largest resident memory so far. */
  readonly memory: { readonly request: object; readonly answer: { readonly bytes: number } };
}

export type WorkerCall = keyof WorkerCalls;

/** A message to a worker. */
export type WorkerRequest = {
  readonly [C in WorkerCall]: { readonly call: C } & WorkerCalls[C]['request'];
}[WorkerCall];

/** A message from a worker. */
export type WorkerResponse =
  | { readonly answer: WorkerCalls[WorkerCall]['answer'] }
  | { readonly error: { readonly code: string | undefined; readonly message: string } };
