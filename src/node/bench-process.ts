import type { ChildProcess } from 'node:child_process';
import { EngineError } from '../errors.js';
import { reviveError } from '../pipeline/revive-error.js';
import type { WorkerCall, WorkerCalls, WorkerResponse } from './bench-protocol.js';
import { forkWorker } from './fork-worker.js';

/** A worker process. */
export interface WorkerProcess {
  /** Sends a request; one at a time. @throws the worker's error, or EngineError when it died */
  send<C extends WorkerCall>(call: C, request: WorkerCalls[C]['request']): Promise<WorkerCalls[C]['answer']>;
  stop(): Promise<void>;
}

/** Starts a worker. It ends on `stop`, on abort, and with this process. */
export function startWorker(signal?: AbortSignal): WorkerProcess {
  signal?.throwIfAborted();
  const child = forkWorker('bench-worker', { stdio: ['ignore', 'ignore', 'pipe', 'ipc'] });
  let errorOutput = '';
  child.stderr?.on('data', (bytes) => {
    errorOutput = `${errorOutput}${bytes}`.slice(-2000);
  });
  const kill = () => child.kill('SIGKILL');
  signal?.addEventListener('abort', kill, { once: true });
  const ended = new Promise<void>((resolve) => {
    child.once('exit', () => resolve());
    child.once('error', () => resolve());
  });
  return {
    async send(call, request) {
      signal?.throwIfAborted();
      const answer = await nextResponse(child, { call, ...request }, ended);
      signal?.throwIfAborted();
      if (answer === undefined)
        throw new EngineError(`a benchmark process died${errorOutput === '' ? '' : `: ${errorOutput.trim()}`}`);
      if ('error' in answer) throw reviveError(answer.error);
      return answer.answer as never;
    },
    async stop() {
      signal?.removeEventListener('abort', kill);
      kill();
      await ended;
    },
  };
}

/** @returns undefined when the process ends without an answer. */
function nextResponse(child: ChildProcess, message: object, ended: Promise<void>): Promise<WorkerResponse | undefined> {
  return new Promise((resolve) => {
    child.once('message', (answer) => resolve(answer as WorkerResponse));
    void ended.then(() => resolve(undefined));
    child.send(message, (error) => {
      if (error !== null) resolve(undefined);
    });
  });
}
