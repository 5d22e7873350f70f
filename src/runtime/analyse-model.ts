import type { GraphProto } from 'onnx-buf';
import { type DetectedModel, detectLayout } from '../architecture/detect-layout.js';
import { UnsupportedModelError } from '../errors.js';
import { indexGraph, nodeLabel } from '../onnx/graph-index.js';
import { type ModelInput, type PrefillSize, readModelInputs } from '../onnx/model-inputs.js';
import type { OnnxModel } from '../onnx/onnx-model.js';
import { findSteppedSizes } from '../onnx/stepped-sizes.js';
import { OPEN, type TwoRunFacts, type ValueFact, type ValueFacts } from '../onnx/value-facts.js';
import { operatorOf } from '../operators/table.js';
import type { Engine } from './engine.js';
import { lowerForRun, splitSums } from './lower-for-run.js';
import { type ProbeSize, probeValues } from './probe-values.js';
import { refuseCrashing } from './refuse-crashing.js';
import { refuseEncoder } from './refuse-encoder.js';
import { refuseUnrunnable } from './refuse-unrunnable.js';

/** Analysis of a model: its layout, and facts about its values from two small runs. */
export interface AnalysedModel {
  readonly detected: DetectedModel;
  readonly facts: TwoRunFacts;
  readonly inputs: readonly ModelInput[];
  readonly tokenInput: string;
  /** Sizes of the two runs. */
  readonly probes: readonly [PrefillSize, PrefillSize];
  /** Most windows per run. Infinity: no limit. */
  readonly rowLimit: number;
}

/** A model with its analysis. */
export interface UnderstoodModel {
  readonly model: OnnxModel;
  readonly analysed: AnalysedModel;
}

/**
 * Analyses a model by its topology and two runs with zeros for its large weights, which are not read.
 * @throws UnsupportedModelError naming the node that makes the model impossible to prune, or that the engine cannot run.
 */
export async function analyseModel(model: OnnxModel, engine: Engine, signal?: AbortSignal): Promise<AnalysedModel> {
  const graph = model.proto.graph;
  if (graph === undefined) throw new UnsupportedModelError('the file contains no graph');
  const inputs = readModelInputs(graph);
  refuseKnownObstacles(graph);
  await refuseCrashing(model);
  const tokens = inputs.find(({ role }) => role === 'tokens')!;
  const tokenInput = tokens.name;
  const probes = chooseProbes(tokens);
  const lowered: GraphProto = { ...graph, node: splitSums(graph.node) };
  const runnable: GraphProto = { ...graph, node: lowerForRun(graph) };
  signal?.throwIfAborted();
  const request = { engine, proto: model.proto, graph: runnable, weights: model.weights, sizes: probes };
  const [first, second] = (await probeValues(request).catch((error: unknown) => {
    throw refuseUnrunnable(error, { engine, model });
  })) as [ValueFacts, ValueFacts];
  const logits = findLogits(graph, probes[0], (name) => first.get(name)?.dims);
  const index = indexGraph(lowered);
  refuseEncoder({ index, facts: first, inputs, tokenInput, logits, sequenceLength: probes[0].sequenceLength });
  const isOwn = (weight: string) =>
    model.embeddingPrefix === undefined || !weight.startsWith(model.embeddingPrefix.prefix);
  const detected = detectLayout({ index, facts: first, tokenInput, logits, isOwn });
  const rowLimit = typeof tokens.dims[0] === 'number' ? tokens.dims[0] : Number.POSITIVE_INFINITY;
  const stepped = findSteppedSizes(index, { first, second });
  return { detected, facts: { first, second, stepped }, inputs, tokenInput, probes, rowLimit };
}

function refuseKnownObstacles(graph: GraphProto): void {
  for (const node of graph.node) {
    const refusal = operatorOf(node)?.refusal ?? 'none';
    if (refusal !== 'none') throw new UnsupportedModelError(`${nodeLabel(node)}: ${refusal}`);
  }
  const outputs = new Set(graph.output.map(({ name }) => name));
  const merged = graph.node.find(({ opType, output }) => opType === 'If' && output.some((value) => outputs.has(value)));
  if (merged !== undefined) {
    throw new UnsupportedModelError(
      `${nodeLabel(merged)} contains entire decoders in its branches (a merged decoder); prune decoder_with_past_model.onnx or export one graph with a KV cache`,
    );
  }
}

/** The output named `logits`, or else the one with dims `[batch, window, vocabulary]`. */
function findLogits(
  graph: GraphProto,
  { batchSize, sequenceLength }: PrefillSize,
  dimsOf: (name: string) => readonly number[] | undefined,
): string {
  const names = graph.output.map(({ name }) => name);
  const found =
    names.find((name) => name === 'logits') ??
    names.find((name) => {
      const dims = dimsOf(name) ?? [];
      return dims.length === 3 && dims[0] === batchSize && dims[1] === sequenceLength;
    });
  if (found === undefined) {
    throw new UnsupportedModelError(
      `the model has no logits [batch, window, vocabulary] among its outputs (${names.slice(0, 4).join(', ')}, ...)`,
    );
  }
  return found;
}

/**
 * Sizes of two runs that differ in batch and window, to find the sizes that depend on them. All numbers are small and
 * distinct, and a window plus a few tokens (attention sinks) is not the same multiple of the batch in both.
 */
const PROBES: readonly [ProbeSize, ProbeSize] = [
  { batchSize: 2, sequenceLength: 3, selectedCount: 7 },
  { batchSize: 3, sequenceLength: 8, selectedCount: 11 },
];

/**
 * Sizes of the two probe runs. A graph for one window at a time is probed with one.
 * @throws UnsupportedModelError for a graph whose windows are of one length, or come in batches of one size above 1.
 */
export function chooseProbes({ name, dims }: ModelInput): readonly [ProbeSize, ProbeSize] {
  const [batch, sequence] = dims;
  if (typeof sequence === 'number') {
    const accepted = sequence === 1 ? 'one token at a time' : `exactly ${sequence} tokens`;
    throw new UnsupportedModelError(
      `"${name}" has dims [${dims.join(', ')}]: the graph takes ${accepted}, and pruning runs windows of any length; export it with an open sequence length (dynamic_axes or dynamic_shapes of torch.onnx.export)`,
    );
  }
  if (typeof batch !== 'number') return PROBES;
  if (batch !== 1) {
    throw new UnsupportedModelError(
      `"${name}" has dims [${dims.join(', ')}]: the graph takes exactly ${batch} windows together, expected one or any number; export it with an open batch size`,
    );
  }
  const [first, second] = PROBES;
  return [
    { ...first, batchSize: 1 },
    { ...second, batchSize: 1 },
  ];
}

/** A size as a function of batch and window. */
type Growth = (size: PrefillSize) => number;

/**
 * Extrapolates dims and small integers of a run of another size from the two probe runs, for batches and windows that are too
 * large to probe. Dims that grow in another way, or in steps, are open, and contents are omitted. The sizes of the probes must
 * differ under every kind of growth.
 */
export function factsForSize(
  { facts, probes }: Pick<AnalysedModel, 'facts' | 'probes'>,
  target: PrefillSize,
): ValueFacts {
  const scaled = new Map<string, ValueFact>();
  const scale = (first: readonly number[], second: readonly number[]): (number | undefined)[] | undefined => {
    if (first.length !== second.length) return undefined;
    return first.map((value, at) => findGrowth([value, second[at]!], probes)?.(target));
  };
  for (const [name, fact] of facts.first) {
    const other = facts.second.get(name);
    if (facts.stepped?.has(name)) {
      scaled.set(name, { dims: fact.dims.map(() => OPEN), dataType: fact.dataType });
      continue;
    }
    const dims = other && scale(fact.dims, other.dims)?.map((dim) => dim ?? OPEN);
    if (other === undefined || dims === undefined) continue;
    const ints = fact.ints && other.ints && scale(fact.ints, other.ints);
    scaled.set(name, { dims, dataType: fact.dataType, ...(ints?.every((value) => value !== undefined) && { ints }) });
  }
  return scaled;
}

/** Quantities that sizes are multiples of. */
const MEASURES: readonly Growth[] = [
  () => 1,
  ({ batchSize }) => batchSize,
  ({ sequenceLength }) => sequenceLength,
  ({ batchSize, sequenceLength }) => batchSize * sequenceLength,
];

/** A multiple of batch, window or both, or the window and some tokens more or less. */
function findGrowth(
  [first, second]: readonly [number, number],
  [one, two]: readonly [PrefillSize, PrefillSize],
): Growth | undefined {
  const measure = MEASURES.find((measured) => first * measured(two) === second * measured(one));
  if (measure !== undefined) return (size) => (first / measure(one)) * measure(size);
  const more = first - one.sequenceLength;
  return second - two.sequenceLength === more ? ({ sequenceLength }) => sequenceLength + more : undefined;
}
