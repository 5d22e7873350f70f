import { type ChildProcess, type ForkOptions, fork } from 'node:child_process';
import { fileURLToPath, pathToFileURL } from 'node:url';

/** Where this code lies, in CommonJS and in ES modules. */
const OWN_URL = typeof __filename === 'string' ? pathToFileURL(__filename).href : import.meta.url;

/** From the package's own TypeScript sources a worker is TypeScript too, and Node.js needs `tsx` to read it. */
const RUNS_FROM_SOURCES = OWN_URL.endsWith('.ts');

/** Programs of the package, by their names in the sources; the build puts every entry into one folder. */
const PROGRAMS = { 'bench/worker': 'bench-worker', 'isolated-worker': 'isolated-worker' } as const;

/** Starts a program of the package in a process that is asked by messages. */
export function forkWorker(program: keyof typeof PROGRAMS, options: ForkOptions): ChildProcess {
  const url = new URL(RUNS_FROM_SOURCES ? `./${program}.ts` : `./${PROGRAMS[program]}.js`, OWN_URL);
  return fork(fileURLToPath(url), { execArgv: RUNS_FROM_SOURCES ? ['--import', 'tsx'] : [], ...options });
}
