import { type ChildProcess, type ForkOptions, fork } from 'node:child_process';
import { fileURLToPath, pathToFileURL } from 'node:url';

/** Where this code lies, in CommonJS and in ES modules. */
const OWN_URL = typeof __filename === 'string' ? pathToFileURL(__filename).href : import.meta.url;

/** From the package's own TypeScript sources a worker is TypeScript too, and Node.js needs `tsx` to read it. */
const RUNS_FROM_SOURCES = OWN_URL.endsWith('.ts');

/** Programs of the package: where their sources lie from here; the build puts every entry into one folder. */
const PROGRAMS = { 'bench-worker': '../bench/worker.ts', 'isolated-worker': './worker.ts' } as const;

/** Starts a program of the package in a process that is asked by messages; bounds on this one's memory are its own too. */
export function forkWorker(program: keyof typeof PROGRAMS, options: ForkOptions): ChildProcess {
  const url = new URL(RUNS_FROM_SOURCES ? PROGRAMS[program] : `./${program}.js`, OWN_URL);
  const bounds = process.execArgv.filter((flag) => flag.startsWith('--max'));
  return fork(fileURLToPath(url), {
    execArgv: [...bounds, ...(RUNS_FROM_SOURCES ? ['--import', 'tsx'] : [])],
    ...options,
  });
}
