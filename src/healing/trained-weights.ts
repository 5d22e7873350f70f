import type { NodeProto } from 'onnx-buf';
import type { BlockSpan, ModelLayout } from '../architecture/layout.js';
import { carriedOf } from '../graph/extract-stage.js';
import { type GraphIndex, inputsOf } from '../graph/graph-index.js';
import { influencedValues, partitionGraph } from '../graph/partition.js';
import type { ValueFacts } from '../graph/value-facts.js';
import { isFloatType } from '../onnx/float-encoding.js';
import type { OnnxModel, TensorHandle } from '../onnx/onnx-model.js';
import type { ParameterForm } from '../operators/operator.js';
import { operatorOf } from '../operators/table.js';
import type { AnalysedModel } from '../runtime/analyse-model.js';

/** A weight that healing trains. */
export interface TrainedWeight {
  /** Its initializer. */
  readonly name: string;
  readonly handle: TensorHandle;
  readonly count: number;
  /** Spans whose blocks read it, by their place in the list of spans, ascending; several where blocks share it. */
  readonly spans: readonly number[];
}

/** What is trained of a block, by name. */
export const TRAINED = {
  all: { description: 'all maps, gains and biases of the blocks', fits: () => true },
  ffn: { description: 'the maps of FFNs and their biases', fits: ({ inFfn }) => inFfn },
  outputs: {
    description: 'the maps out of FFNs and attentions, gains and biases',
    fits: ({ isOutput, form }) => isOutput || form === 'vector',
  },
} as const satisfies Record<string, TrainedRow>;

export type TrainedName = keyof typeof TRAINED;

interface TrainedRow {
  readonly description: string;
  fits(use: WeightUse): boolean;
}

/** A place where a weight is read. */
interface WeightUse {
  readonly form: ParameterForm;
  /** Whether the node that reads it holds neurons of an FFN. */
  readonly inFfn: boolean;
  /** Whether it is the map out of a module that can be pruned. */
  readonly isOutput: boolean;
}

export interface TrainedRequest {
  readonly model: OnnxModel;
  readonly analysed: AnalysedModel;
  /** Of the graph that is run. */
  readonly index: GraphIndex;
  readonly spans: readonly BlockSpan[];
  readonly trained: TrainedName;
}

/** Finds the weights of the blocks that are learnt, by the rows of the operators that read them, in the order of their use. */
export function findTrainedWeights({ model, analysed, index, spans, trained }: TrainedRequest): TrainedWeight[] {
  const { cuts } = analysed.detected.partition;
  const found = new Map<string, Set<number>>();
  const describe = describeUses(analysed);
  const partition = partitionGraph(index, cuts);
  const carried = new Set(carriedOf(index, partition, cuts[0]!).map(({ name }) => name));
  for (const [at, { first, last }] of spans.entries()) {
    const nodes = partition.stages
      .slice(first, last + 1)
      .flat()
      .map((node) => index.nodes[node]!);
    const influenced = influencedValues(nodes, [cuts[first - 1]!]);
    const telling = tellingValues(nodes, cuts[last]!, { facts: analysed.facts.first, carried });
    const isOnPath = (value: string) => influenced.has(value) && telling.has(value);
    for (const node of nodes.filter(({ output }) => output.some(isOnPath))) {
      for (const [slot, form] of Object.entries(operatorOf(node)?.parameters ?? {})) {
        const weight = traceWeight(model, index, node.input[Number(slot)] ?? '');
        if (weight === undefined || !hasForm(model.weights.get(weight)!, form)) continue;
        if (!TRAINED[trained].fits(describe(node, form))) continue;
        found.set(weight, (found.get(weight) ?? new Set()).add(at));
      }
    }
  }
  return [...found].map(([name, places]) => {
    const handle = model.weights.get(name)!;
    return { name, handle, count: sizeOf(handle), spans: [...places] };
  });
}

/**
 * Values that a gradient reaches from a block's output: not what only chooses or counts, such as the bias of a router, nor what
 * makes values that other blocks read too.
 */
function tellingValues(
  nodes: readonly NodeProto[],
  output: string,
  { facts, carried }: { readonly facts: ValueFacts; readonly carried: ReadonlySet<string> },
): Set<string> {
  const telling = new Set([output]);
  const isFloat = (value: string) => isFloatType(facts.get(value)?.dataType ?? 0);
  for (const node of nodes.toReversed()) {
    const isTelling = node.output.some((value) => telling.has(value) && !carried.has(value));
    if (operatorOf(node)?.gradient === 'zero' || !isTelling) continue;
    for (const value of inputsOf(node)) if (isFloat(value)) telling.add(value);
  }
  return telling;
}

function describeUses({ detected: { layout, traces } }: AnalysedModel) {
  const results = new Set(layout.modules.map(({ output }) => output.result));
  const neurons = ffnValues(layout, traces);
  return (node: { readonly input: readonly string[]; readonly output: readonly string[] }, form: ParameterForm) => ({
    form,
    inFfn: [...node.input, ...node.output].some((value) => neurons.has(value)),
    isOutput: node.output.some((value) => results.has(value)),
  });
}

function ffnValues({ modules }: ModelLayout, traces: AnalysedModel['detected']['traces']): Set<string> {
  const ffns = modules.filter(({ kind }) => kind === 'ffn');
  return new Set(ffns.flatMap(({ index }) => [...(traces[index]?.labels.keys() ?? [])]));
}

/** The only float weight of more than one number that a constant is made of, through casts, transposes and arithmetic with scalars. */
function traceWeight(model: OnnxModel, index: GraphIndex, value: string): string | undefined {
  if (!index.constants.has(value)) return undefined;
  const handle = model.weights.get(value);
  if (handle !== undefined) return isFloatType(handle.dataType) && sizeOf(handle) > 1 ? value : undefined;
  const producer = index.nodes[index.producerOf.get(value) ?? -1];
  if (producer === undefined || operatorOf(producer)?.weight === 'unpacked') return undefined;
  const traced = new Set(inputsOf(producer).flatMap((input) => traceWeight(model, index, input) ?? []));
  return traced.size === 1 ? [...traced][0] : undefined;
}

/** A gain or bias has one number a channel, so that tables and masks are none. */
const hasForm = ({ dims }: TensorHandle, form: ParameterForm): boolean =>
  form === 'matrix' ? dims.length >= 2 : dims.slice(0, -1).every((dim) => dim === 1);

const sizeOf = ({ dims }: TensorHandle): number => dims.reduce((product, dim) => product * dim, 1);
