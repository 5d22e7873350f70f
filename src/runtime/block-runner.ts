import { sum } from '../linalg/sum.js';
import { dropNanGuards } from '../onnx/drop-nan-guards.js';
import { carriedValues } from '../onnx/extract-stage.js';
import { type GraphIndex, indexGraph } from '../onnx/graph-index.js';
import { readModelInputs } from '../onnx/model-inputs.js';
import type { OnnxModel } from '../onnx/onnx-model.js';
import { influencedValues, partitionGraph } from '../onnx/partition.js';
import type { TwoRunFacts } from '../onnx/value-facts.js';
import { type CompiledStage, compileStage, joinExtensions, type StageExtension } from './compile-stage.js';
import type { Engine, SessionOptions, Tensor, Tensors } from './engine.js';
import { lowerForRun } from './lower-for-run.js';
import { prefillFeeds } from './prefill-feeds.js';
import { releaseTensors, retainTensor } from './tensor-memory.js';
import type { TensorStore } from './tensor-store.js';
import { createValueCache, type SavedValueCache } from './value-cache.js';

/** Windows that run together. */
export interface Batch {
  readonly index: number;
  /** Index of its first token among the tokens of all batches. */
  readonly firstToken: number;
  readonly batchSize: number;
  readonly sequenceLength: number;
  /** Token ids, `[batchSize, sequenceLength]` row by row. */
  readonly tokens: Int32Array;
}

export interface StageRun {
  readonly fetches: readonly string[];
  /** Values of the stage that the extension reads. */
  readonly reads?: readonly string[];
  readonly extension?: StageExtension;
  /** Feeds of the extension's own inputs. */
  readonly extensionFeeds?: (batch: Batch) => Tensors | Promise<Tensors>;
}

/** Values to measure in a stage while the hidden states move through it. */
export interface StageReads extends Partial<StageRun> {
  /** Called for each batch that has moved, with its requested values, which are released afterwards. */
  readonly onBatch?: (batch: Batch, values: Tensors) => void | Promise<void>;
}

/**
 * Runs a model stage by stage over all calibration windows, with the weights of few stages in memory.
 * The hidden states are stored between stages: `advance` moves all of them through the current stage, `observe` runs it
 * without moving them. Every run uses the model's current graph and weights.
 */
export interface BlockRunner {
  readonly batches: readonly Batch[];
  /** Segment that runs next. */
  readonly segment: number;
  /** Hidden states at the input of the current stage, or of the first passed stage that has not run yet. */
  readonly states: TensorStore;
  /** Other values that earlier stages computed. */
  readonly side: SideValues;
  /** Runs the current stage and yields `fetches` and the extension's outputs by batch; callers must iterate to the end. */
  observe(run: StageRun): AsyncGenerator<{ readonly batch: Batch; readonly values: Tensors }>;
  /**
   * Caches values of the current stage when they are next computed, so that later runs of the stage start from them. The
   * cache is cleared when the hidden states move.
   */
  hold(values: readonly string[]): void;
  /** Narrows a cached value to the remaining channels of its last axis; without channels it is dropped. */
  narrowHeld(value: string, keep: Int32Array): void;
  /** Moves the hidden states through the current stage. */
  advance(reads?: StageReads): Promise<void>;
  /**
   * Like `advance`, but the stage runs in the graph of the next `observe`: one session instead of two, and the hidden states
   * between them remain in the engine. Once two stages are passed, the next call runs them first.
   */
  pass(reads?: StageReads): Promise<void>;
  /**
   * State of the runner, for `restore` of another one. Stages that were passed must be passed again. Each part must be read
   * before the next one is requested.
   */
  save(): AsyncGenerator<unknown>;
  /** Approximate bytes of the saved state. */
  readonly savedBytes: number;
  /** Restores the position of another runner of the same model, with the same edits. */
  restore(saved: AsyncIterable<unknown>): Promise<void>;
  dispose(): Promise<void>;
}

/** First part of a saved state; a `SavedBatch` follows for each batch. */
interface SavedRunner {
  readonly from: number;
  readonly passedCount: number;
  readonly side: SavedSide;
  readonly held: SavedValueCache;
}

interface SavedBatch {
  /** Absent before the first segment. */
  readonly state: Tensor | undefined;
  readonly held: ReadonlyMap<string, Tensor>;
}

export interface BlockRunnerOptions {
  readonly engine: Engine;
  /** Edited in place between calls while pruning, unless it `isFixed`. */
  readonly model: OnnxModel;
  /** Whether nodes are never edited while it is open, so that the graph is analysed once; weights may change. Default false. */
  readonly isFixed?: boolean;
  readonly cuts: readonly string[];
  readonly facts: TwoRunFacts;
  readonly tokenInput: string;
  readonly batches: readonly Batch[];
  readonly states: TensorStore;
  /** Pack weights for one batch too: packed weights round differently. Default false: packing pays from two batches on. */
  readonly packsWeights?: boolean;
  /** Default `all`. */
  readonly optimization?: SessionOptions['optimization'];
  readonly signal?: AbortSignal | undefined;
}

/** Most passed stages, since their weights are in memory together. */
const MAX_PASSED = 2;

/** Starts at the token ids; the first `advance` computes the first hidden state. */
export function createBlockRunner(options: BlockRunnerOptions): BlockRunner {
  const { engine, model, cuts, facts, batches, states, signal } = options;
  const side = createSideValues();
  const cache = createValueCache();
  /** Stage whose input the hidden states are. */
  let from = 0;
  /** Passed stages from `from` on, with the values to measure in each. */
  let passed: StageReads[] = [];
  let analysed: AnalysedGraph | undefined;
  /** Bytes of one batch's hidden state. */
  let stateBytes = 0;
  const currentSegment = () => from + passed.length;

  async function* observe(run: StageRun) {
    if (analysed === undefined || !options.isFixed) analysed = analyseGraph(options);
    const { index } = analysed;
    const moved = passed.length === 0 ? [] : findMoved(analysed);
    const all = joinRuns([...passed, run]);
    const wanted = cache.wantedAmong([...all.fetches, ...all.reads]);
    const fetches = [...new Set([...all.fetches, ...wanted, ...moved.map(({ name }) => name)])];
    const compiled = await compile({ ...all, fetches }, index);
    try {
      for (const batch of batches) {
        signal?.throwIfAborted();
        const feeds = await feedsOf(compiled, batch);
        const values = await compiled.session.run({ ...feeds, ...(await all.extensionFeeds(batch)) });
        for (const value of wanted) cache.put(value, batch.index, values[value]!);
        await move(moved, batch, values);
        yield { batch, values };
      }
      cache.finish(wanted);
    } finally {
      await compiled.session.release();
    }
    if (moved.length === 0) return;
    cache.forget();
    from = currentSegment();
    passed = [];
  }

  function compile({ fetches, reads = [], extension }: StageRun, index: GraphIndex): Promise<CompiledStage> {
    const isAvailable = (value: string) =>
      index.inputs.has(value) || value === cuts[from - 1] || side.has(value) || cache.has(value);
    const { narrowed } = cache;
    const isBrief = batches.length === 1 && options.packsWeights !== true;
    const session = { isBrief, optimization: options.optimization ?? 'all' };
    return compileStage({ engine, model, index, isAvailable, fetches, reads, extension, facts, narrowed, session });
  }

  async function feedsOf({ inputs: names, narrowed }: CompiledStage, batch: Batch): Promise<Record<string, Tensor>> {
    // Read again each time: cutting heads narrows the cache inputs.
    const inputs = readModelInputs(model.proto.graph!).filter(({ name }) => names.includes(name));
    const feeds = prefillFeeds(inputs, batch, batch.tokens);
    for (const name of names) {
      if (feeds[name] !== undefined) continue;
      const whole = narrowed.get(name);
      if (cache.has(name)) feeds[whole ?? name] = cache.get(name, batch.index);
      else feeds[name] = name === cuts[from - 1] ? await states.get(batch.index) : side.get(name, batch);
    }
    return feeds;
  }

  /** Values to output so that the next run can start after the passed stages: the hidden state, and others that later stages read. */
  function findMoved(graph: AnalysedGraph): Moved[] {
    const end = currentSegment();
    const carried = graph.carried().slice(from, end);
    const dependent = graph.tokenDependent();
    const state = cuts[end - 1]!;
    return [...new Set([state, ...carried.flat()])].map((name) => ({
      name,
      isState: name === state,
      tokenDependent: dependent.has(name),
    }));
  }

  async function move(moved: readonly Moved[], batch: Batch, values: Tensors): Promise<void> {
    for (const { name, isState, tokenDependent } of moved) {
      if (isState) {
        stateBytes = values[name]!.data.byteLength;
        await states.put(batch.index, values[name]!);
      } else side.put(name, batch, values[name]!, tokenDependent);
    }
    if (moved.length === 0) return;
    cache.drop(batch.index);
    for (const { onBatch } of passed) {
      signal?.throwIfAborted();
      await onBatch?.(batch, values);
    }
    signal?.throwIfAborted();
  }

  async function pass(reads: StageReads = {}): Promise<void> {
    const segment = currentSegment();
    if (cuts[segment] === undefined)
      throw new RangeError(`segment ${segment} is the last one; there is no hidden state after it`);
    if (passed.length === MAX_PASSED) await settle();
    cache.endStage();
    passed.push(reads);
  }

  async function* save(): AsyncGenerator<unknown> {
    const { complete } = cache.save();
    yield { from, passedCount: passed.length, side: side.save(), held: cache.save() } satisfies SavedRunner;
    for (const { index } of batches) {
      const values = [...complete].map((value) => [value, cache.get(value, index)] as const);
      const state = from === 0 ? undefined : await states.get(index);
      yield { state, held: new Map(values) } satisfies SavedBatch;
    }
  }

  async function restore(saved: AsyncIterable<unknown>): Promise<void> {
    let batch = -1;
    for await (const part of saved) {
      if (batch < 0) {
        const start = part as SavedRunner;
        from = start.from;
        side.restore(start.side);
        cache.restore(start.held);
        passed = Array.from({ length: start.passedCount }, () => ({}));
      } else {
        const { state, held } = part as SavedBatch;
        if (state !== undefined) await states.put(batch, state);
        stateBytes = state?.data.byteLength ?? 0;
        for (const [value, tensor] of held) cache.put(value, batch, tensor);
      }
      batch += 1;
    }
  }

  /** Runs the passed stages. */
  async function settle(): Promise<void> {
    for await (const { values } of observe({ fetches: [] })) releaseTensors(values);
  }

  return {
    batches,
    get segment() {
      return currentSegment();
    },
    states,
    side,
    observe,
    hold: cache.want,
    narrowHeld: cache.narrow,
    pass,
    save,
    get savedBytes() {
      return cache.byteLength() + batches.length * stateBytes;
    },
    restore,
    async advance(reads) {
      await pass(reads);
      await settle();
    },
    dispose: () => states.dispose(),
  };
}

/** Joins runs of several stages into one. */
function joinRuns(parts: readonly StageReads[]) {
  return {
    fetches: parts.flatMap(({ fetches = [] }) => fetches),
    reads: parts.flatMap(({ reads = [] }) => reads),
    extension: joinExtensions(parts.flatMap(({ extension = [] }) => extension)),
    async extensionFeeds(batch: Batch): Promise<Tensors> {
      const fed = await Promise.all(parts.map(({ extensionFeeds }) => extensionFeeds?.(batch)));
      return Object.assign({}, ...fed);
    },
  };
}

/** Index of a graph, with analyses that are computed on first use. */
interface AnalysedGraph {
  readonly index: GraphIndex;
  readonly carried: () => ReturnType<typeof carriedValues>;
  readonly tokenDependent: () => ReadonlySet<string>;
}

function analyseGraph({ model, cuts, tokenInput }: BlockRunnerOptions): AnalysedGraph {
  const index = indexRunGraph(model);
  return {
    index,
    carried: once(() => carriedValues(index, partitionGraph(index, cuts))),
    tokenDependent: once(() => influencedValues(index.nodes, [tokenInput])),
  };
}

function once<T extends object>(find: () => T): () => T {
  let found: T | undefined;
  return () => {
    found ??= find();
    return found;
  };
}

/** A value that a run outputs for the stages after the passed ones. */
interface Moved {
  readonly name: string;
  /** The hidden state itself. */
  readonly isState: boolean;
  readonly tokenDependent: boolean;
}

/** Index of the graph that runs over complete windows: an explicit residual stream, runnable operators, no guards against padding. */
export function indexRunGraph(model: OnnxModel) {
  const graph = model.proto.graph!;
  return indexGraph({ ...graph, node: dropNanGuards(lowerForRun(graph)) });
}

/** Rotary tables, masks and sizes that many stages read: one copy per batch size, unless they depend on the tokens. */
export interface SideValues {
  has(name: string): boolean;
  get(name: string, batch: Batch): Tensor;
  put(name: string, batch: Batch, tensor: Tensor, tokenDependent: boolean): void;
  save(): SavedSide;
  restore(saved: SavedSide): void;
}

/** Names of values, and tensors by name and batch, or by name and batch size. */
interface SavedSide {
  readonly names: ReadonlySet<string>;
  readonly values: ReadonlyMap<string, Tensor>;
}

function createSideValues(): SideValues {
  const values = new Map<string, Tensor>();
  const keys = (name: string, { index, batchSize }: Batch) => [`${name}#${index}`, `${name}x${batchSize}`];
  const names = new Set<string>();
  return {
    has: (name: string): boolean => names.has(name),
    put(name: string, batch: Batch, tensor: Tensor, tokenDependent: boolean): void {
      const [own = '', shared = ''] = keys(name, batch);
      const key = tokenDependent ? own : shared;
      names.add(name);
      if (values.has(key)) return;
      retainTensor(tensor);
      values.set(key, tensor);
    },
    get(name: string, batch: Batch): Tensor {
      const found = keys(name, batch)
        .map((key) => values.get(key))
        .find((tensor) => tensor !== undefined);
      if (found === undefined) throw new RangeError(`"${name}" was not carried from an earlier stage`);
      return found;
    },
    save: () => ({ names, values }),
    restore(saved) {
      for (const name of saved.names) names.add(name);
      for (const [key, tensor] of saved.values) values.set(key, tensor);
    },
  };
}

/** Groups windows of equal length into batches of `batchSize`. */
export function makeBatches(windows: readonly Int32Array[], batchSize: number): Batch[] {
  const batches: Batch[] = [];
  for (let start = 0; start < windows.length; start += batchSize) {
    const members = windows.slice(start, start + batchSize);
    const sequenceLength = members[0]?.length ?? 0;
    const tokens = new Int32Array(members.length * sequenceLength);
    members.forEach((window, row) => {
      tokens.set(window, row * sequenceLength);
    });
    const firstToken = start * sequenceLength;
    batches.push({ index: batches.length, firstToken, batchSize: members.length, sequenceLength, tokens });
  }
  return batches;
}

/** Number of tokens in batches. */
export const countTokens = (batches: readonly Pick<Batch, 'tokens'>[]): number =>
  sum(batches.map(({ tokens }) => tokens.length));
