import { UnsupportedModelError } from '../errors.js';
import { carriedValues, tokenDependentValues } from '../graph/extract-stage.js';
import { type GraphIndex, indexGraph } from '../graph/graph-index.js';
import { lowerForRun } from '../graph/lower-for-run.js';
import { readModelInputs } from '../graph/model-inputs.js';
import { partitionGraph } from '../graph/partition.js';
import type { TwinFacts } from '../graph/value-facts.js';
import type { OnnxModel } from '../onnx/onnx-model.js';
import { type CompiledStage, compileStage, type StageExtension } from './compile-stage.js';
import type { Engine, Tensor, Tensors } from './engine.js';
import { createHeldValues } from './held-values.js';
import type { HiddenStates } from './hidden-states.js';
import { prefillFeeds } from './prefill-feeds.js';

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
  readonly extensionFeeds?: (batch: Batch) => Tensors;
}

/**
 * Runs a model stage by stage over all calibration windows, one stage's weights in memory at a time.
 * The hidden states wait in a store between stages; `advance` moves all of them through the next stage as the model
 * stands now, `observe` looks at the next stage without moving them.
 */
export interface BlockRunner {
  readonly batches: readonly Batch[];
  /** Stage whose input the hidden states are now. */
  readonly stage: number;
  /** The hidden states now. */
  readonly states: HiddenStates;
  /** Values beside the hidden states that were made on the way. */
  readonly side: SideValues;
  /** Runs the current stage for what `fetches` and the extension hand out, batch by batch. */
  observe(run: StageRun): AsyncGenerator<{ readonly batch: Batch; readonly values: Tensors }>;
  /**
   * Has values of the current stage kept in memory when they are next computed, so that later runs of the stage start from
   * them. They are forgotten when the hidden states move on.
   */
  hold(values: readonly string[]): void;
  /** Narrows a held value to some channels of its last axis, as the model was narrowed; with none it is forgotten. */
  narrowHeld(value: string, keep: Int32Array): void;
  /** Moves the hidden states through the current stage; `onBatch` hears of each batch. */
  advance(onBatch?: (batch: Batch) => void): Promise<void>;
  dispose(): Promise<void>;
}

export interface BlockRunnerOptions {
  readonly engine: Engine;
  /** Edited in place between calls by whoever prunes. */
  readonly model: OnnxModel;
  readonly cuts: readonly string[];
  readonly facts: TwinFacts;
  readonly tokenInput: string;
  readonly batches: readonly Batch[];
  readonly states: HiddenStates;
  readonly signal?: AbortSignal | undefined;
}

/** Starts at the token ids; the first `advance` makes the first hidden state. */
export function createBlockRunner(options: BlockRunnerOptions): BlockRunner {
  const { engine, model, cuts, facts, batches, states, signal } = options;
  const side = createSideValues();
  const held = createHeldValues();
  let stage = 0;

  const compile = ({ fetches, reads = [], extension }: StageRun, index: GraphIndex): Promise<CompiledStage> => {
    const atHand = (value: string) =>
      index.inputs.has(value) || value === cuts[stage - 1] || side.has(value) || held.has(value);
    const { widths } = held;
    return compileStage({ engine, model, index, atHand, fetches, reads, extension, facts, widths });
  };

  async function* observe(run: StageRun, index = indexRunGraph(model)) {
    const kept = held.wantedAmong([...run.fetches, ...(run.reads ?? [])]);
    const compiled = await compile({ ...run, fetches: [...new Set([...run.fetches, ...kept])] }, index);
    try {
      for (const batch of batches) {
        signal?.throwIfAborted();
        const feeds = await feedsOf(compiled.inputs, batch);
        const values = await compiled.session.run({ ...feeds, ...run.extensionFeeds?.(batch) });
        for (const value of kept) held.put(value, batch.index, values[value]!);
        yield { batch, values };
      }
      held.finish(kept);
    } finally {
      await compiled.session.release();
    }
  }

  async function feedsOf(names: readonly string[], batch: Batch): Promise<Record<string, Tensor>> {
    // Read anew each time: cutting heads narrows the cache inputs.
    const inputs = readModelInputs(model.proto.graph!).filter(({ name }) => names.includes(name));
    const given = prefillFeeds(inputs, batch, batch.tokens);
    for (const name of names) {
      if (given[name] !== undefined) continue;
      if (held.has(name)) given[name] = held.get(name, batch.index);
      else given[name] = name === cuts[stage - 1] ? await states.get(batch.index) : side.get(name, batch);
    }
    return given;
  }

  async function advance(onBatch?: (batch: Batch) => void): Promise<void> {
    const output = cuts[stage];
    if (output === undefined)
      throw new RangeError(`stage ${stage} is the last one; there is no hidden state behind it`);
    const index = indexRunGraph(model);
    const carried = carriedValues(index, partitionGraph(index, cuts))[stage] ?? [];
    const dependent = tokenDependentValues(index, options.tokenInput);
    const reread = carried.find((name) => dependent.has(name) && stage > 0);
    if (reread !== undefined) {
      throw new UnsupportedModelError(
        `"${reread}" is made in one block and read again by a later one; such models cannot be run block by block yet`,
      );
    }
    const fetches = [output, ...carried.filter((name) => name !== output)];
    for await (const { batch, values } of observe({ fetches }, index)) {
      await states.put(batch.index, values[output]!);
      for (const name of carried) side.put(name, batch, values[name]!, dependent.has(name));
      onBatch?.(batch);
    }
    held.clear();
    stage += 1;
  }

  return {
    batches,
    get stage() {
      return stage;
    },
    states,
    side,
    observe: (run) => observe(run),
    hold: held.want,
    narrowHeld: held.narrow,
    advance,
    dispose: () => states.dispose(),
  };
}

/** The graph that runs: the model's own with the residual stream laid bare and no operator that cannot run. */
export function indexRunGraph(model: OnnxModel) {
  const graph = model.proto.graph!;
  return indexGraph({ ...graph, node: lowerForRun(graph) });
}

/** Rotary tables, masks and sizes that many stages read: one copy per batch size, unless the tokens matter. */
export interface SideValues {
  has(name: string): boolean;
  get(name: string, batch: Batch): Tensor;
  put(name: string, batch: Batch, tensor: Tensor, tokenDependent: boolean): void;
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
      if (!values.has(key)) values.set(key, tensor);
    },
    get(name: string, batch: Batch): Tensor {
      const found = keys(name, batch)
        .map((key) => values.get(key))
        .find((tensor) => tensor !== undefined);
      if (found === undefined) throw new RangeError(`"${name}" was not carried from an earlier stage`);
      return found;
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
