import { cpus } from 'node:os';
import { OptionError } from '../errors.js';
import { compareSpeeds, type Spread, spreadOf } from '../evaluation/speed.js';
import { BENCH } from '../options/commands.js';
import { checkOptions, defaultsOf, type OptionsOf, refusal, rowsOf } from '../options/option.js';
import type { BENCHMARK } from '../options/single-calls.js';
import { guardListener } from '../pipeline/guard-listener.js';
import { createOverallProgress } from '../pipeline/overall-progress.js';
import type { JobControl } from '../progress.js';
import type { ExecutionProviderChoice } from '../runtime/platform.js';
import { modelPaths, openModelFolder, type SourceOptions, totalBytes } from '../storage/model-folder.js';
import { startWorker, type WorkerProcess } from './bench-process.js';
import { explainSpeed, type SpeedComparison, targetSpeed } from './explain-speed.js';
import { nodePlatform } from './node-platform.js';
import { probeWidths } from './probe-widths.js';

export interface BenchmarkRequest extends JobControl, SourceOptions, OptionsOf<typeof BENCHMARK> {
  /** Model folders or `.onnx` files; the others are compared with the first. */
  readonly models: readonly string[];
  /** Default `cpu`. */
  readonly executionProvider?: ExecutionProviderChoice | undefined;
}

/** Speed and memory of one model on this machine. */
export interface ModelSpeed {
  readonly model: string;
  /** Bytes of the model file and its external data. */
  readonly fileBytes: number;
  /** Milliseconds to create a session from the file, each time in a new process with a warm disk cache. */
  readonly loadMs: Spread;
  /** Prompt tokens per second. */
  readonly prefillTokensPerSecond: Spread;
  /** Generated tokens per second after the prompt. */
  readonly decodeTokensPerSecond: Spread;
  /** Largest resident memory of the model's own process. */
  readonly peakMemoryBytes: number;
  /** Whether the graph has a KV cache; without one every generated token reads the entire text again. */
  readonly hasCache: boolean;
}

export interface BenchmarkReport {
  readonly machine: {
    readonly processor: string;
    readonly cores: number;
    readonly platform: string;
    readonly node: string;
  };
  readonly promptLength: number;
  readonly newTokens: number;
  readonly rounds: number;
  readonly models: readonly ModelSpeed[];
  readonly comparisons: readonly SpeedComparison[];
}

const DEFAULTS = { promptLength: 128, ...defaultsOf(BENCH.Benchmark) } as const;

/** Largest number of measured loads: loading is slow and varies little. */
const LOAD_ROUNDS = 3;

/**
 * Measures models in separate processes, so that peak memory is per model, alternating in every round, so that
 * disturbances affect all. It uses ONNX Runtime in Node.js with this library's KV cache; other runtimes have other
 * overheads, but the same matrix products.
 *
 * @throws OptionError for options out of range; errors of loading a model; EngineError when a process dies.
 */
export async function benchmark(given: BenchmarkRequest): Promise<BenchmarkReport> {
  checkOptions(given, rowsOf(BENCH));
  const { release, ...control } = guardListener(given);
  try {
    return await measureAll({ ...given, ...control });
  } finally {
    release();
  }
}

async function measureAll(given: BenchmarkRequest): Promise<BenchmarkReport> {
  if (given.faster !== undefined && given.models.length === 1)
    throw refusal('faster', 'has no effect for one model; add a smaller model, or leave it out');
  const shape = await resolve(given);
  // Offline from here on: requests to the Hub would count as loading.
  const request = { ...given, offline: true };
  const loadRounds = Math.min(LOAD_ROUNDS, shape.rounds);
  const total = 1 + loadRounds + 1 + shape.rounds;
  let done = 0;
  const overall = createOverallProgress(() => performance.now());
  const report = (detail: string) =>
    request.onProgress?.(overall.add({ stage: 'benchmark', done: done++, total, detail }));
  const workers: WorkerProcess[] = [];
  try {
    const loads = await loadInTurns(request, { workers, loadRounds, report: () => report('load') });
    const speeds = await runInTurns(request.models, { workers, shape, report: () => report('read and write') });
    const models: ModelSpeed[] = [];
    for (const [at, model] of request.models.entries()) {
      models.push({
        model,
        fileBytes: await fileBytes(model, request),
        loadMs: spreadOf(loads[at]!.times),
        prefillTokensPerSecond: spreadOf(speeds[at]!.prefill),
        decodeTokensPerSecond: spreadOf(speeds[at]!.decode),
        peakMemoryBytes: (await workers[at]!.send('memory', {})).bytes,
        hasCache: loads[at]!.hasCache,
      });
    }
    report('compare');
    await Promise.all(workers.splice(0).map((worker) => worker.stop()));
    return { machine: describeMachine(), ...shape, models, comparisons: await compareAll(models, request, shape) };
  } finally {
    await Promise.all(workers.map((worker) => worker.stop()));
  }
}

interface Shape {
  readonly promptLength: number;
  readonly newTokens: number;
  readonly rounds: number;
}

async function resolve({ models, ...request }: BenchmarkRequest): Promise<Shape> {
  if (models.length === 0) throw new OptionError('there is no model to measure; name at least one');
  const { newTokens = DEFAULTS.newTokens, rounds = DEFAULTS.rounds } = request;
  const longest = await shortestContext(models, request);
  const fitting = Math.max(1, Math.min(DEFAULTS.promptLength, longest - newTokens));
  const { promptLength = fitting } = request;
  if (promptLength + newTokens > longest) {
    throw new OptionError(
      `promptLength and newTokens are ${promptLength + newTokens} together, but a model reads at most ${longest} tokens`,
    );
  }
  return { promptLength, newTokens, rounds };
}

/** Shortest context length; also finds missing models before measuring. */
async function shortestContext(models: readonly string[], options: SourceOptions & JobControl): Promise<number> {
  const { embeddings, offline, onProgress, signal } = options;
  let shortest = Number.POSITIVE_INFINITY;
  for (const model of models) {
    const folder = await openModelFolder(nodePlatform, model, { embeddings, offline, onProgress, signal });
    const longest = await folder.longestWindow().finally(() => folder.close());
    shortest = Math.min(shortest, longest ?? shortest);
  }
  return shortest;
}

interface Loading {
  readonly workers: WorkerProcess[];
  readonly loadRounds: number;
  readonly report: () => void;
}

interface Loads {
  readonly times: number[];
  hasCache: boolean;
}

/** Loads every model several times in new processes; the last processes are kept, in order of the models. */
async function loadInTurns(
  { models, embeddings, offline, executionProvider, signal }: BenchmarkRequest,
  { workers, loadRounds, report }: Loading,
): Promise<readonly Loads[]> {
  const loads = models.map((): Loads => ({ times: [], hasCache: false }));
  for (let round = 0; round <= loadRounds; round++) {
    report();
    await Promise.all(workers.splice(0).map((worker) => worker.stop()));
    for (const [at, model] of models.entries()) {
      const worker = startWorker(signal);
      workers.push(worker);
      const { loadMs, hasCache } = await worker.send('open', { model, embeddings, offline, executionProvider });
      // The first time warms the disk cache.
      if (round > 0) loads[at]!.times.push(loadMs);
      loads[at]!.hasCache = hasCache;
    }
  }
  return loads;
}

interface Turns {
  readonly workers: readonly WorkerProcess[];
  readonly shape: Shape;
  readonly report: () => void;
}

/** Tokens per second of every round. Odd rounds run in reverse order, so that no model always follows the same one. */
async function runInTurns(models: readonly string[], { workers, shape, report }: Turns) {
  const { promptLength, newTokens, rounds } = shape;
  const speeds = models.map(() => ({ prefill: [] as number[], decode: [] as number[] }));
  const forwards = [...models.keys()];
  for (let round = 0; round <= rounds; round++) {
    report();
    const order = round % 2 === 0 ? forwards : [...forwards].reverse();
    for (const at of order) {
      const { ms } = await workers[at]!.send('prefill', { promptLength });
      if (round > 0) speeds[at]!.prefill.push((1000 * promptLength) / ms);
    }
    for (const at of order) {
      const { ms } = await workers[at]!.send('decode', { promptLength, newTokens });
      if (round > 0) speeds[at]!.decode.push((1000 * newTokens) / ms);
    }
  }
  return speeds;
}

async function compareAll(
  [reference, ...others]: readonly ModelSpeed[],
  request: BenchmarkRequest,
  { promptLength }: Shape,
): Promise<SpeedComparison[]> {
  const comparisons: SpeedComparison[] = [];
  for (const other of others) {
    const models = { model: other.model, reference: reference!.model };
    const widths = request.probe === false ? undefined : await probeWidths({ ...request, ...models, promptLength });
    const speeds = {
      ...models,
      prefill: compareSpeeds(other.prefillTokensPerSecond.values, reference!.prefillTokensPerSecond.values),
      decode: compareSpeeds(other.decodeTokensPerSecond.values, reference!.decodeTokensPerSecond.values),
      fileRatio: other.fileBytes / reference!.fileBytes,
      memoryRatio: other.peakMemoryBytes / reference!.peakMemoryBytes,
      ...(widths && { widths }),
    };
    const bytes = { own: other.fileBytes, reference: reference!.fileBytes };
    const target = request.faster === undefined ? {} : { target: targetSpeed(request.faster, speeds, bytes) };
    const compared = { ...speeds, ...target };
    comparisons.push({ ...compared, summary: explainSpeed(compared, other.hasCache) });
  }
  return comparisons;
}

async function fileBytes(model: string, { embeddings, offline }: SourceOptions): Promise<number> {
  const folder = await openModelFolder(nodePlatform, model, { embeddings, offline });
  try {
    return await totalBytes(nodePlatform, modelPaths(folder, await folder.load()));
  } finally {
    await folder.close();
  }
}

function describeMachine(): BenchmarkReport['machine'] {
  const cores = cpus();
  return {
    processor: cores[0]?.model.trim() ?? 'unknown',
    cores: cores.length,
    platform: `${process.platform} ${process.arch}`,
    node: process.version,
  };
}
