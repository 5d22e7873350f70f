import { readFile } from 'node:fs/promises';

/** What a sweep compares, as `tiny.json` says it. Paths are relative to the folder in which workers run, which all of them must see. */
export interface Sweep {
  readonly models: readonly string[];
  readonly methods: readonly ('auto' | 'flap' | 'obc' | 'o-fang' | 'f-fang' | 'wanda' | 'magnitude' | 'random')[];
  readonly sparsities: readonly number[];
  /** Texts to measure perplexity on. */
  readonly texts: readonly string[];
  /** As `prune({ calibration })`. */
  readonly calibration?: Windows | undefined;
  /** As `evaluateModels`. */
  readonly evaluation?: Windows | undefined;
}

interface Windows {
  readonly windowCount?: number;
  readonly windowLength?: number;
}

/** The queue that jobs of all kinds wait in. */
export const QUEUE = 'fang-prune';

/** `REDIS_URL`, or Redis on this machine. A worker waits for it as long as it takes. */
export const connection = { url: process.env.REDIS_URL ?? 'redis://127.0.0.1:6379', maxRetriesPerRequest: null };

export const readSweep = async (path: string): Promise<Sweep> => JSON.parse(await readFile(path, 'utf8')) as Sweep;
