import type { ChildProcess, StdioOptions } from 'node:child_process';
import { type Channel, type FromCallee, sendRequest } from '../pipeline/call-messages.js';
import type { AnswerOf, CallName, RequestOf } from '../pipeline/call-table.js';
import type { JobControl } from '../progress.js';
import { MEMORY_REMEDY } from '../runtime/out-of-memory.js';
import { forkWorker } from './fork-worker.js';
import { bytesOfPaths, type WatchedProcess, watchProcess } from './watch-process.js';

/** Time for an aborted call to stop by itself; its checkpoints are complete in any case. */
const GRACE_PERIOD_MS = 1500;

/**
 * Makes a call in a separate process with a watchdog. Progress and abort signals are forwarded; a listener that throws
 * aborts it.
 * @throws OptionError when the request cannot be sent (functions, an engine, a tokenizer); EngineError with the current
 *   stage when the process died; errors of the call or the listener; the signal's reason when aborted.
 */
export async function runIsolated<Call extends CallName>(
  call: Call,
  { onProgress, signal, ...request }: RequestOf<Call> & JobControl,
): Promise<AnswerOf<Call>> {
  signal?.throwIfAborted();
  const child = forkWorker('isolated-worker', { serialization: 'advanced', stdio: inheritDescriptors(request) });
  const kill = () => child.kill('SIGKILL');
  process.once('exit', kill);
  try {
    const watched = watchProcess(child, bytesOfPaths(pathsOf(request)));
    const channel: Channel = {
      send(message) {
        if (child.connected) child.send(message);
        if ('abort' in message) setTimeout(kill, GRACE_PERIOD_MS).unref();
      },
      listen: (onMessage) => listenTo(child, { call, watched, onMessage }),
    };
    return await sendRequest(channel, call, { ...request, onProgress, signal });
  } finally {
    process.off('exit', kill);
    kill();
  }
}

interface ListenOptions {
  readonly call: CallName;
  readonly watched: WatchedProcess;
  onMessage(message: FromCallee): void;
}

/** Listens to a process; its death is an error. */
function listenTo(child: ChildProcess, { call, watched, onMessage }: ListenOptions): void {
  child.on('message', (message: FromCallee) => {
    watched.noteHeartbeat('progress' in message ? message.progress : undefined);
    onMessage(message);
  });
  void watched.death.then((death = 'exited without an answer') => {
    const message = `the process of ${call} ${death}. ${remedyOf(death)}`;
    onMessage({ error: { code: 'ERR_ENGINE', message } });
  });
}

/** Deaths that indicate lack of memory, except where the model is the more likely cause. */
const SHORT_OF_MEMORY = /^died by SIGKILL|it used .* at the stage "(?!load|analyse|rebuild)/;

/** Advice after a process died. */
export function remedyOf(death: string): string {
  if (!SHORT_OF_MEMORY.test(death))
    return 'The model or a file next to it may be the cause: check where it comes from, or try another export';
  const uncertified = death.includes('at the stage "certify"')
    ? '. "certify: false" resumes from there too, and writes the model unchecked'
    : '';
  return `${MEMORY_REMEDY}. Runs with an output save checkpoints, and the same command resumes from there${uncertified}`;
}

/** Paths of models and reports in a request. */
function pathsOf(request: object): string[] {
  const { model, models, dense, pruned, reference, ...given } = request as Readonly<Record<string, unknown>>;
  const { report, add, beside } = given;
  return [model, models, dense, pruned, reference, report, add, beside]
    .flat()
    .filter((path) => typeof path === 'string');
}

/** Path of a shell's process substitution, `<(...)`. */
const DESCRIPTOR = /^\/(?:dev|proc\/self)\/fd\/(\d+)$/;

/** Descriptors in a request that the process inherits; no others are passed. */
function inheritDescriptors(request: object): StdioOptions {
  const stdio: ('inherit' | 'ignore' | 'ipc' | number)[] = ['inherit', 'inherit', 'inherit'];
  for (const text of textsIn(request)) {
    const descriptor = Number(DESCRIPTOR.exec(text)?.[1] ?? 0);
    if (descriptor < 3) continue;
    while (stdio.length <= descriptor) stdio.push('ignore');
    stdio[descriptor] = descriptor;
  }
  return [...stdio, 'ipc'];
}

/** All strings in plain objects and lists. */
function* textsIn(value: unknown): Generator<string> {
  if (typeof value === 'string') yield value;
  if (typeof value !== 'object' || value === null || ArrayBuffer.isView(value)) return;
  for (const part of Object.values(value)) yield* textsIn(part);
}
