import { type ChildProcess, fork } from 'node:child_process';
import { fileURLToPath, pathToFileURL } from 'node:url';
import {
  EngineError,
  type FangPruneError,
  ModelFormatError,
  NumericalError,
  OptionError,
  UnsupportedModelError,
} from '../errors.js';
import type { WorkerAnswer, WorkerCall, WorkerCalls } from './protocol.js';

/** A child process that works for this one. */
export interface WorkerProcess {
  /** Asks for something; one question at a time. @throws what the worker threw, or EngineError when it died. */
  ask<C extends WorkerCall>(call: C, request: WorkerCalls[C]['request']): Promise<WorkerCalls[C]['answer']>;
  stop(): Promise<void>;
}

/** Where this code lies, in CommonJS and in ES modules. */
const OWN_URL = typeof __filename === 'string' ? pathToFileURL(__filename).href : import.meta.url;

/** From the package's own TypeScript sources the worker is TypeScript too, and Node.js needs `tsx` to read it. */
const RUNS_FROM_SOURCES = OWN_URL.endsWith('.ts');

/** The build puts every entry, and the code they share, into one folder. */
const WORKER_URL = new URL(RUNS_FROM_SOURCES ? './worker.ts' : './bench-worker.js', OWN_URL);

/** Starts a worker. It ends when asked to, when the signal says so, and when this process does. */
export function startWorker(signal?: AbortSignal): WorkerProcess {
  signal?.throwIfAborted();
  const child = fork(fileURLToPath(WORKER_URL), {
    execArgv: RUNS_FROM_SOURCES ? ['--import', 'tsx'] : [],
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
  });
  let said = '';
  child.stderr?.on('data', (bytes) => {
    said = `${said}${bytes}`.slice(-2000);
  });
  const kill = () => child.kill('SIGKILL');
  signal?.addEventListener('abort', kill, { once: true });
  const ended = new Promise<void>((resolve) => {
    child.once('exit', () => resolve());
    child.once('error', () => resolve());
  });
  return {
    async ask(call, request) {
      signal?.throwIfAborted();
      const answer = await nextAnswer(child, { call, ...request }, ended);
      signal?.throwIfAborted();
      if (answer === undefined)
        throw new EngineError(`a benchmark process died${said === '' ? '' : `: ${said.trim()}`}`);
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
function nextAnswer(child: ChildProcess, message: object, ended: Promise<void>): Promise<WorkerAnswer | undefined> {
  return new Promise((resolve) => {
    child.once('message', (answer) => resolve(answer as WorkerAnswer));
    void ended.then(() => resolve(undefined));
    child.send(message, (error) => {
      if (error !== null) resolve(undefined);
    });
  });
}

const ERRORS = [OptionError, ModelFormatError, UnsupportedModelError, NumericalError, EngineError];

/** An error of the same class, so far as it is one of the library's. */
function reviveError({ code, message }: { readonly code: string | undefined; readonly message: string }): Error {
  const revived = ERRORS.map((ErrorClass): FangPruneError => new ErrorClass(message));
  return revived.find((error) => error.code === code) ?? new EngineError(`a benchmark process failed: ${message}`);
}
