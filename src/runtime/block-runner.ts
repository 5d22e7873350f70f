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

/** Some windows that run through a block together. */
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

/** Values that are measured of a stage while the hidden states move through it. */
export interface StageReads extends Partial<StageRun> {
  /** Called with each batch when it has moved, and its requested values, which are released afterwards. */
  readonly onBatch?: (batch: Batch, values: Tensors) => void | Promise<void>;
}

/**
 * Runs a model stage by stage over all calibration windows, few stages' weights in memory at a time.
 * The hidden states wait in a store between stages; `advance` moves all of them through the next stage, `observe` measures
 * the next stage without moving them. Every run takes the model as it stands then.
 */
export interface BlockRunner {
  readonly batches: readonly Batch[];
  /** Segment that runs next. */
  readonly segment: number;
  /** The hidden states at the input of the stage, but for stages that were passed and are not measured yet. */
  readonly states: TensorStore;
  /** Values besides the hidden states that were made on the way. */
  readonly side: SideValues;
  /** Runs the current stage for what `fetches` and the extension return, batch by batch; to be read to its end. */
  observe(run: StageRun): AsyncGenerator<{ readonly batch: Batch; readonly values: Tensors }>;
  /**
   * Has values of the current stage kept in memory when they are next computed, so that later runs of the stage start from
   * them. They are forgotten when the hidden states move on.
   */
  hold(values: readonly string[]): void;
  /** Narrows a held value to some channels of its last axis, as the model was narrowed; with none it is forgotten. */
  narrowHeld(value: string, keep: Int32Array): void;
  /** Moves the hidden states through the current stage. */
  advance(reads?: StageReads): Promise<void>;
  /**
   * Leaves the current stage behind like `advance`, but has the next `observe` run it in the same graph: one session in place of
   * two, and the hidden states between need not leave the engine. Stages beyond two that wait are run at once.
   */
  pass(reads?: StageReads): Promise<void>;
  /**
   * Where the runner stands: what is to be passed to another one's `restore`. Stages that were passed must be so again. Each part
   * is read before the next one is asked for.
   */
  save(): AsyncGenerator<unknown>;
  /** Bytes that `save` gives, roughly. */
  readonly savedBytes: number;
  /** Restores the position of another runner of the same model, with the same edits. */
  restore(saved: AsyncIterable<unknown>): Promise<void>;
  dispose(): Promise<void>;
}

/** The first of what a runner saves; a `SavedBatch` follows for each batch. */
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
  /** The model's nodes are not edited while the runner is open, so that its graph is read once; weights may change. Default false. */
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

/** Stages that wait for the next `observe`, so that the weights of few are in memory together. */
const MAX_PASSED = 2;

/** Starts at the token ids; the first `advance` makes the first hidden state. */
export function createBlockRunner(options: BlockRunnerOptions): BlockRunner {
  const { engine, model, cuts, facts, batches, states, signal } = options;
  const side = createSideValues();
  const held = createValueCache();
  /** Stage whose input the hidden states are. */
  let from = 0;
  /** Stages from there on that were passed, by what is measured in each. */
  let passed: StageReads[] = [];
  let seen: AnalysedGraph | undefined;
  /** Of one batch. */
  let stateBytes = 0;
  const segmentNow = () => from + passed.length;

  async function* observe(run: StageRun) {
    if (seen === undefined || !options.isFixed) seen = analyseGraph(options);
    const { index } = seen;
    const moved = passed.length === 0 ? [] : findMoved(seen);
    const all = joinRuns([...passed, run]);
    const wanted = held.wantedAmong([...all.fetches, ...all.reads]);
    const fetches = [...new Set([...all.fetches, ...wanted, ...moved.map(({ name }) => name)])];
    const compiled = await compile({ ...all, fetches }, index);
    try {
      for (const batch of batches) {
        signal?.throwIfAborted();
        const feeds = await feedsOf(compiled, batch);
        const values = await compiled.session.run({ ...feeds, ...(await all.extensionFeeds(batch)) });
        for (const value of wanted) held.put(value, batch.index, values[value]!);
        await move(moved, batch, values);
        yield { batch, values };
      }
      held.finish(wanted);
    } finally {
      await compiled.session.release();
    }
    if (moved.length === 0) return;
    held.forget();
    from = segmentNow();
    passed = [];
  }

  function compile({ fetches, reads = [], extension }: StageRun, index: GraphIndex): Promise<CompiledStage> {
    const isAvailable = (value: string) =>
      index.inputs.has(value) || value === cuts[from - 1] || side.has(value) || held.has(value);
    const { narrowed } = held;
    const isBrief = batches.length === 1 && options.packsWeights !== true;
    const session = { isBrief, optimization: options.optimization ?? 'all' };
    return compileStage({ engine, model, index, isAvailable, fetches, reads, extension, facts, narrowed, session });
  }

  async function feedsOf({ inputs: names, narrowed }: CompiledStage, batch: Batch): Promise<Record<string, Tensor>> {
    // Read again each time: cutting heads narrows the cache inputs.
    const inputs = readModelInputs(model.proto.graph!).filter(({ name }) => names.includes(name));
    const given = prefillFeeds(inputs, batch, batch.tokens);
    for (const name of names) {
      if (given[name] !== undefined) continue;
      const whole = narrowed.get(name);
      if (held.has(name)) given[whole ?? name] = held.get(name, batch.index);
      else given[name] = name === cuts[from - 1] ? await states.get(batch.index) : side.get(name, batch);
    }
    return given;
  }

  /** Values to output so that a run can start after the stages that were passed: the hidden state, and others that later stages read. */
  function findMoved(graph: AnalysedGraph): Moved[] {
    const end = segmentNow();
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
    held.drop(batch.index);
    for (const { onBatch } of passed) {
      signal?.throwIfAborted();
      await onBatch?.(batch, values);
    }
    signal?.throwIfAborted();
  }

  async function pass(reads: StageReads = {}): Promise<void> {
    const segment = segmentNow();
    if (cuts[segment] === undefined)
      throw new RangeError(`segment ${segment} is the last one; there is no hidden state behind it`);
    if (passed.length === MAX_PASSED) await settle();
    held.leave();
    passed.push(reads);
  }

  async function* save(): AsyncGenerator<unknown> {
    const { complete } = held.save();
    yield { from, passedCount: passed.length, side: side.save(), held: held.save() } satisfies SavedRunner;
    for (const { index } of batches) {
      const values = [...complete].map((value) => [value, held.get(value, index)] as const);
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
        held.restore(start.held);
        passed = Array.from({ length: start.passedCount }, () => ({}));
      } else {
        const { state, held: saved } = part as SavedBatch;
        if (state !== undefined) await states.put(batch, state);
        stateBytes = state?.data.byteLength ?? 0;
        for (const [value, tensor] of saved) held.put(value, batch, tensor);
      }
      batch += 1;
    }
  }

  /** Runs the stages that were passed. */
  async function settle(): Promise<void> {
    for await (const { values } of observe({ fetches: [] })) releaseTensors(values);
  }

  return {
    batches,
    get segment() {
      return segmentNow();
    },
    states,
    side,
    observe,
    hold: held.want,
    narrowHeld: held.narrow,
    pass,
    save,
    get savedBytes() {
      return held.byteLength() + batches.length * stateBytes;
    },
    restore,
    async advance(reads) {
      await pass(reads);
      await settle();
    },
    dispose: () => states.dispose(),
  };
}

/** One run of what several ask for. */
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

/** A model's graph, and what is asked of it as a whole, found when it is first asked. */
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

/** A value that is returned when stages were passed. */
interface Moved {
  readonly name: string;
  /** The hidden state itself. */
  readonly isState: boolean;
  readonly tokenDependent: boolean;
}

/** The graph that runs over complete windows: the model's own with the residual stream made explicit, no operator that cannot run and no guard against padding. */
export function indexRunGraph(model: OnnxModel) {
  const graph = model.proto.graph!;
  return indexGraph({ ...graph, node: dropNanGuards(lowerForRun(graph)) });
}

/** Rotary tables, masks and sizes that many stages read: one copy per batch size, unless the tokens matter. */
export interface SideValues {
  has(name: string): boolean;
  get(name: string, batch: Batch): Tensor;
  put(name: string, batch: Batch, tensor: Tensor, tokenDependent: boolean): void;
  save(): SavedSide;
  restore(saved: SavedSide): void;
}

/** Values by name, and tensors by the batches that they serve. */
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

/** Groups windows of equal length into batches of about `tokensPerBatch` tokens. */
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
