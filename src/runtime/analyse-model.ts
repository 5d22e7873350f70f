import type { GraphProto } from 'onnx-buf';
import { type DetectedModel, detectLayout } from '../architecture/detect-layout.js';
import { UnsupportedModelError } from '../errors.js';
import { indexGraph, nodeLabel } from '../onnx/graph-index.js';
import { type ModelInput, type PrefillSize, readModelInputs } from '../onnx/model-inputs.js';
import type { OnnxModel } from '../onnx/onnx-model.js';
import { findSteppedSizes } from '../onnx/stepped-sizes.js';
import type { TwoRunFacts, ValueFacts } from '../onnx/value-facts.js';
import { operatorOf } from '../operators/table.js';
import { chooseProbes } from './choose-probes.js';
import { countPositions } from './count-positions.js';
import type { Engine } from './engine.js';
import { extrapolateFacts } from './extrapolate-facts.js';
import { lowerForRun, splitSums } from './lower-for-run.js';
import { probeValues } from './probe-values.js';
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
  /** Longest window by the graph's position tables. Undefined: it has none. */
  readonly positionCount: number | undefined;
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
  const positionCount = countPositions({ index, facts: first, inputs });
  const stepped = findSteppedSizes(index, { first, second });
  return { detected, facts: { first, second, stepped }, inputs, tokenInput, probes, rowLimit, positionCount };
}

/** Facts of a run of another size, extrapolated from the two probes. */
export function factsForSize({ facts, probes }: AnalysedModel, size: PrefillSize): ValueFacts {
  return extrapolateFacts({ facts, sizes: probes }, size);
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
