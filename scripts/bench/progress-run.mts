/** Runs one call in this process and prints its progress reports with times: `{ endMs, told }`. */
import { evaluateModels, heal, prune } from '../../src/node.js';
import type { Progress } from '../../src/progress.js';

/** A progress report and its time. */
export interface Told extends Progress {
  readonly at: number;
}

export interface FollowedRun {
  readonly endMs: number;
  readonly told: readonly Told[];
}

const CALLS = { prune, heal, evaluateModels } as const;
const [call, request, clock] = process.argv.slice(2) as [keyof typeof CALLS, string, string];
if (clock === 'processor') {
  const processorMs = (): number => {
    const { user, system } = process.cpuUsage();
    return (user + system) / 1000;
  };
  performance.now = processorMs;
}
const start = performance.now();
const told: Told[] = [];
const onProgress = (progress: Progress) => void told.push({ at: performance.now() - start, ...progress });
await (CALLS[call] as (request: object) => Promise<unknown>)({ ...JSON.parse(request), onProgress });
console.log(JSON.stringify({ endMs: performance.now() - start, told } satisfies FollowedRun));
