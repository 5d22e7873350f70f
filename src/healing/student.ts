import { cotangentOf, OUTPUT_COTANGENT } from '../activations/carried-cotangents.js';
import type { BlockSpan } from '../architecture/layout.js';
import { type GraphIndex, inputsOf } from '../onnx/graph-index.js';
import type { OnnxModel } from '../onnx/onnx-model.js';
import { opsetOf } from '../onnx/opset-of.js';
import { buildGradientGraph } from '../operators/gradient-graph.js';
import { type AnalysedModel, factsForSize } from '../runtime/analyse-model.js';
import type { Batch, SideValues } from '../runtime/block-runner.js';
import { type CompiledStage, compileStage, type LoadedSlice, type StageExtension } from '../runtime/compile-stage.js';
import type { Engine, Tensor, Tensors } from '../runtime/engine.js';
import { shareSessions } from '../runtime/share-sessions.js';
import { stageFeeds } from '../runtime/stage-feeds.js';
import { releaseTensor } from '../runtime/tensor-memory.js';
import type { ChangingValue } from './carried-values.js';
import type { PlacedWeight, WeightGroups } from './weight-groups.js';

/** The blocks of a model in training: forward and backward graphs are compiled once, and weights are fed. */
export interface Student {
  readonly spans: readonly BlockSpan[];
  /** A block's output, and the values that later blocks read. */
  forward(at: number, run: BlockRun): Promise<{ readonly output: Tensor; readonly computed: Tensors }>;
  /**
   * Computes the cotangents of a block's inputs from those of its outputs, after its forward pass again. Gradients of its
   * weights are added to `sums`, one flat list for each group that it reads.
   */
  backward(at: number, run: BackwardRun): Promise<BlockCotangents>;
  release(): Promise<void>;
}

export interface BlockRun {
  readonly batch: Batch;
  /** The block's input. */
  readonly hidden: Tensor;
  /** Values of earlier blocks, see `ChangingValue`. */
  readonly carried: Tensors;
  /** Current trained weights. */
  readonly weights: Tensors;
}

export interface BackwardRun extends BlockRun {
  readonly cotangent: Tensor;
  /** Cotangents of carried values that later blocks have read, by the value's name. */
  readonly carriedCotangents: Tensors;
  /** By index of the group. */
  readonly sums: ReadonlyMap<number, Float32Array>;
}

export interface BlockCotangents {
  /** Of the block's input; absent for the first block, whose input is not trained on. */
  readonly input: Tensor | undefined;
  /** Of the carried values that the block reads, by name. */
  readonly carried: Tensors;
}

export interface StudentRequest {
  readonly engine: Pick<Engine, 'load'>;
  readonly model: OnnxModel;
  readonly analysed: AnalysedModel;
  /** Of the graph that is run. */
  readonly index: GraphIndex;
  readonly spans: readonly BlockSpan[];
  readonly groups: WeightGroups;
  /** Values that do not change. */
  readonly side: Pick<SideValues, 'has' | 'get'>;
  /** Values that change in training. */
  readonly carried: readonly ChangingValue[];
}

export function createStudent(request: StudentRequest): Student {
  const given = { ...request, engine: shareSessions(request.engine) };
  const { spans } = given;
  const forwards = new Map<number, Promise<CompiledStage>>();
  const backwards = new Map<string, Promise<BackwardStage>>();
  const forwardOf = (at: number) => once(forwards, at, () => compileForward(given, at));
  const backwardOf = (at: number, { batchSize, sequenceLength }: Batch) =>
    once(backwards, `${at}x${batchSize}`, () => compileBackward(given, at, { batchSize, sequenceLength }));
  const feedsOf = (at: number, names: readonly string[], { batch, hidden, weights, carried }: BlockRun) => {
    const side = { get: (name: string) => carried[name] ?? given.side.get(name, batch) };
    const place = { analysed: given.analysed, side };
    return { ...stageFeeds(place, { names, input: boundsOf(given, at).input, hidden, batch }), ...weights };
  };
  return {
    spans,
    async forward(at, run) {
      const { session, inputs } = await forwardOf(at);
      const { [boundsOf(given, at).output]: output, ...computed } = await session.run(feedsOf(at, inputs, run));
      return { output: output!, computed };
    },
    async backward(at, run) {
      const { session, inputs, computed, cotangents, gradients } = await backwardOf(at, run.batch);
      const results = await session.run({
        ...feedsOf(at, inputs, run),
        [OUTPUT_COTANGENT]: run.cotangent,
        ...Object.fromEntries(computed.map((name) => [cotangentOf(name), run.carriedCotangents[name]!])),
      });
      for (const { group, weight, value } of gradients) {
        addTo(run.sums.get(group)!, weight.offset, results[value]!.data as Float32Array);
        releaseTensor(results[value]!);
      }
      const byValue = [...cotangents].map(([value, cotangent]) => [value, results[cotangent]!] as const);
      const { [boundsOf(given, at).input]: input, ...carried } = Object.fromEntries(byValue);
      return { input, carried };
    },
    async release() {
      const stages = await Promise.allSettled([...forwards.values(), ...backwards.values()]);
      for (const stage of stages) if (stage.status === 'fulfilled') await stage.value.session.release();
    },
  };
}

function once<Key, T>(cache: Map<Key, Promise<T>>, key: Key, compute: () => Promise<T>): Promise<T> {
  const result = cache.get(key) ?? compute();
  cache.set(key, result);
  return result;
}

const namesOf = (values: readonly ChangingValue[], which: (value: ChangingValue) => boolean): string[] =>
  values.filter(which).map(({ name }) => name);

function addTo(sums: Float32Array, offset: number, values: Float32Array): void {
  for (let at = 0; at < values.length; at += 1) sums[offset + at]! += values[at]!;
}

function boundsOf({ analysed, spans }: StudentRequest, at: number) {
  const { cuts } = analysed.detected.partition;
  const { first, last } = spans[at]!;
  return { input: cuts[first - 1]!, output: cuts[last]! };
}

/** Trained weights that a block reads, by group. */
const weightsOf = ({ groups }: StudentRequest, at: number) =>
  groups
    .of(at)
    .flatMap((group) => groups.all[group]!.weights.map((weight) => ({ group, weight })))
    .filter(({ weight }) => weight.spans.includes(at));

function compile(
  given: StudentRequest,
  at: number,
  rest: Pick<Parameters<typeof compileStage>[0], 'fetches' | 'reads' | 'extension'>,
): Promise<CompiledStage> {
  const { engine, model, index, analysed, side, carried } = given;
  const { input } = boundsOf(given, at);
  const before = new Set(namesOf(carried, ({ span }) => span < at));
  return compileStage({
    engine,
    model,
    index,
    isAvailable: (value) => value === input || before.has(value) || index.inputs.has(value) || side.has(value),
    facts: analysed.facts,
    fed: new Set(weightsOf(given, at).map(({ weight }) => weight.name)),
    session: { keepsMemory: false },
    ...rest,
  });
}

const compileForward = (given: StudentRequest, at: number): Promise<CompiledStage> =>
  compile(given, at, {
    fetches: [boundsOf(given, at).output, ...namesOf(given.carried, ({ span }) => span === at)],
  });

interface BackwardStage extends CompiledStage {
  /** Carried values that the block computes and whose cotangents are fed. */
  readonly computed: readonly string[];
  /** Graph outputs with the cotangents of the block's inputs, by the input's name. */
  readonly cotangents: ReadonlyMap<string, string>;
  readonly gradients: readonly { readonly group: number; readonly weight: PlacedWeight; readonly value: string }[];
}

async function compileBackward(
  given: StudentRequest,
  at: number,
  size: Pick<Batch, 'batchSize' | 'sequenceLength'>,
): Promise<BackwardStage> {
  const { model, analysed } = given;
  const { input, output } = boundsOf(given, at);
  const trained = weightsOf(given, at);
  const computed = namesOf(given.carried, ({ span, isFloat }) => span === at && isFloat);
  const before = namesOf(given.carried, ({ span, isFloat }) => span < at && isFloat);
  let cotangents: readonly string[] = [];
  let found: ReadonlyMap<string, string> = new Map();
  const extension = ({ nodes, initializers }: LoadedSlice): StageExtension => {
    const isRead = new Set(nodes.flatMap(inputsOf));
    cotangents = [...(at > 0 ? [input] : []), ...before.filter((name) => isRead.has(name))];
    const gradient = buildGradientGraph({
      graph: { nodes, initializers, opset: opsetOf(model.proto) },
      shapes: factsForSize(analysed, size),
      outputs: [
        { value: output, cotangent: OUTPUT_COTANGENT },
        ...computed.map((value) => ({ value, cotangent: cotangentOf(value) })),
      ],
      wanted: [...cotangents, ...trained.map(({ weight }) => weight.name)],
    });
    found = gradient.gradients;
    return {
      ...gradient,
      inputs: [OUTPUT_COTANGENT, ...computed.map(cotangentOf)].map((name) => ({ name, type: 'float32' })),
      outputs: [...found.values()],
    };
  };
  const compiled = await compile(given, at, { fetches: [], reads: [output, ...computed], extension });
  return {
    ...compiled,
    computed,
    cotangents: new Map(cotangents.map((value) => [value, found.get(value)!])),
    gradients: trained.map(({ group, weight }) => ({ group, weight, value: found.get(weight.name)! })),
  };
}
