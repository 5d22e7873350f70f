import { type ChildProcess, type ForkOptions, fork } from 'node:child_process';
import { findProgram } from './find-program.js';

/** Starts a program of the package in a child process with IPC; memory limits of this process are passed on. */
export function forkWorker(program: Parameters<typeof findProgram>[0], options: ForkOptions): ChildProcess {
  const { path, execArgv } = findProgram(program);
  const memoryFlags = process.execArgv.filter((flag) => flag.startsWith('--max'));
  return fork(path, { execArgv: [...memoryFlags, ...execArgv], ...options });
}
