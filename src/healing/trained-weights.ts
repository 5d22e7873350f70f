import type { NodeProto } from 'onnx-buf';
import type { BlockSpan, ModelLayout, PrunableModule } from '../architecture/layout.js';
import { extractStage } from '../onnx/extract-stage.js';
import { isFloatType } from '../onnx/float-encoding.js';
import { type GraphIndex, inputsOf, qualifiedOp } from '../onnx/graph-index.js';
import type { OnnxModel, TensorHandle } from '../onnx/onnx-model.js';
import { influencedValues, partitionGraph } from '../onnx/partition.js';
import type { ValueFacts } from '../onnx/value-facts.js';
import { expertTensors, FUSED_MIXTURES } from '../operators/experts.js';
import type { ParameterForm } from '../operators/operator.js';
import { operatorOf } from '../operators/table.js';
import type { AnalysedModel } from '../runtime/analyse-model.js';
import type { CarriedValues } from './carried-values.js';

/** A weight that healing trains. */
export interface TrainedWeight {
  /** Its initializer. */
  readonly name: string;
  readonly handle: TensorHandle;
  readonly count: number;
  /** Indices of the spans that read it, ascending; several where blocks share it. */
  readonly spans: readonly number[];
}

/** Selections of trained weights by name. */
export const TRAINED = {
  all: { description: 'all linear layers, norm scales and biases of the blocks', fits: () => true },
  ffn: { description: 'the linear layers of FFNs and experts, and their biases', fits: ({ inFfn }) => inFfn },
  outputs: {
    description: 'the output projections of FFNs, experts and attention, norm scales and biases',
    fits: ({ isOutput, form }) => isOutput || form !== 'matrix',
  },
} as const satisfies Record<string, TrainedRow>;

export type TrainedName = keyof typeof TRAINED;

interface TrainedRow {
  readonly description: string;
  fits(use: WeightUse): boolean;
}

/** A use of a weight. */
interface WeightUse {
  readonly form: ParameterForm;
  /** Whether the node that reads it has neurons of an FFN, or experts. */
  readonly inFfn: boolean;
  /** Whether it is the output projection of a prunable module. */
  readonly isOutput: boolean;
}

export interface TrainedRequest {
  readonly model: OnnxModel;
  readonly analysed: AnalysedModel;
  /** Of the graph that is run. */
  readonly index: GraphIndex;
  readonly spans: readonly BlockSpan[];
  readonly carried: CarriedValues;
  readonly trained: TrainedName;
}

/** Finds the weights of the blocks that the operator table allows to train, in the order of their use. */
export function findTrainedWeights({
  model,
  analysed,
  index,
  spans,
  carried,
  trained,
}: TrainedRequest): TrainedWeight[] {
  const { cuts } = analysed.detected.partition;
  const found = new Map<string, Set<number>>();
  const experts = findExpertWeights(analysed, index);
  const describe = describeUses({ analysed, experts });
  const partition = partitionGraph(index, cuts);
  const fixed = new Set(carried.fixed.map(({ name }) => name));
  const fixedWeights = new Set(
    extractStage(index, { outputs: [...fixed], isAvailable: (value) => value === cuts[0] }).initializers,
  );
  for (const [at, { first, last }] of spans.entries()) {
    const nodes = partition.stages
      .slice(first, last + 1)
      .flat()
      .map((node) => index.nodes[node]!);
    const read = carried.changing.filter(({ span }) => span < at);
    const influenced = influencedValues(nodes, [cuts[first - 1]!, ...read.map(({ name }) => name)]);
    const computed = carried.changing.filter(({ span, isFloat }) => span === at && isFloat);
    const outputs = [cuts[last]!, ...computed.map(({ name }) => name)];
    const withGradient = valuesWithGradient(nodes, outputs, { facts: analysed.facts.first, fixed });
    const isOnPath = (value: string) => influenced.has(value) && withGradient.has(value);
    for (const node of nodes.filter(({ output }) => output.some(isOnPath))) {
      const parameters = { ...operatorOf(node)?.parameters, ...gatheredParameters(node, experts) };
      for (const [slot, form] of Object.entries(parameters)) {
        const weight = traceWeight(model, index, node.input[Number(slot)] ?? '');
        if (weight === undefined || fixedWeights.has(weight) || !hasForm(model.weights.get(weight)!, form)) continue;
        if (!TRAINED[trained].fits(describe(node, { weight, form }))) continue;
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
 * Values with a gradient from a block's outputs: not those that only choose or count, such as a router's bias, nor inputs
 * of values that are computed once for all blocks.
 */
function valuesWithGradient(
  nodes: readonly NodeProto[],
  outputs: readonly string[],
  { facts, fixed }: { readonly facts: ValueFacts; readonly fixed: ReadonlySet<string> },
): Set<string> {
  const withGradient = new Set(outputs);
  const isFloat = (value: string) => isFloatType(facts.get(value)?.dataType ?? 0);
  for (const node of nodes.toReversed()) {
    const hasGradient = node.output.some((value) => withGradient.has(value) && !fixed.has(value));
    if (operatorOf(node)?.gradient === 'zero' || !hasGradient) continue;
    for (const value of inputsOf(node)) if (isFloat(value)) withGradient.add(value);
  }
  return withGradient;
}

/** Operators that gather experts' weights from stacks. */
const GATHERS: ReadonlySet<string> = new Set(['Gather', 'GatherND']);

/** Inputs of a node that are parameters: gathered tables only if they are experts' weights. */
const gatheredParameters = ({ opType, input: [table = ''] }: NodeProto, { weights }: Experts) =>
  GATHERS.has(opType) && weights.has(table) ? ({ 0: 'matrix' } as const) : {};

/** Weights of the experts of all mixtures, without their routers. */
interface Experts {
  readonly weights: ReadonlySet<string>;
  /** Stacked weights of the second linear layers, or the scales of their codes. */
  readonly outputs: ReadonlySet<string>;
  /** Outputs of experts with their own nodes. */
  readonly outputValues: ReadonlySet<string>;
}

function findExpertWeights({ detected: { layout, traces } }: AnalysedModel, index: GraphIndex): Experts {
  const mixtures = layout.modules.filter(({ kind }) => kind === 'experts');
  return {
    weights: new Set(mixtures.flatMap((module) => weightsOfExperts(module, index))),
    outputs: new Set(
      mixtures
        .filter((module) => !hasSeparateNodes(module))
        .map(
          (module) =>
            scalesOfSecond(module, index) ?? traces[module.index]?.neurons?.second.weight ?? module.output.weight,
        ),
    ),
    outputValues: new Set(mixtures.filter(hasSeparateNodes).flatMap(({ unfusedExperts }) => unfusedExperts!.outputs)),
  };
}

const hasSeparateNodes = ({ unfusedExperts }: PrunableModule): boolean => (unfusedExperts?.outputs.length ?? 0) > 1;

const tensorsOf = ({ output }: PrunableModule, index: GraphIndex) =>
  expertTensors(index.nodes[index.producerOf.get(output.result)!]!);

const scalesOfSecond = (module: PrunableModule, index: GraphIndex): string | undefined =>
  module.unfusedExperts === undefined ? tensorsOf(module, index).secondScales : undefined;

function weightsOfExperts(module: PrunableModule, index: GraphIndex): readonly string[] {
  const { input, unfusedExperts } = module;
  if (unfusedExperts === undefined) return tensorsOf(module, index).all;
  const { outputs, chosen } = unfusedExperts;
  return extractStage(index, { outputs, isAvailable: (value) => value === input || value === chosen }).initializers;
}

interface DescribedGraph {
  readonly analysed: AnalysedModel;
  readonly experts: Experts;
}

function describeUses({ analysed: { detected }, experts }: DescribedGraph) {
  const { layout, traces } = detected;
  const results = new Set([...layout.modules.map(({ output }) => output.result), ...experts.outputValues]);
  const neurons = ffnValues(layout, traces);
  // Fused mixtures read both linear layers of their experts.
  return (node: NodeProto, { weight, form }: { readonly weight: string; readonly form: ParameterForm }): WeightUse => ({
    form,
    inFfn: experts.weights.has(weight) || [...node.input, ...node.output].some((value) => neurons.has(value)),
    isOutput:
      experts.outputs.has(weight) ||
      (!FUSED_MIXTURES.has(qualifiedOp(node)) && node.output.some((value) => results.has(value))),
  });
}

function ffnValues({ modules }: ModelLayout, traces: AnalysedModel['detected']['traces']): Set<string> {
  const ffns = modules.filter(({ kind }) => kind === 'ffn');
  return new Set(ffns.flatMap(({ index }) => [...(traces[index]?.labels.keys() ?? [])]));
}

/** The only non-scalar float weight from which a constant is computed, through casts, transposes and arithmetic with scalars. */
function traceWeight(model: OnnxModel, index: GraphIndex, value: string): string | undefined {
  if (!index.constants.has(value)) return undefined;
  const handle = model.weights.get(value);
  if (handle !== undefined) return isFloatType(handle.dataType) && sizeOf(handle) > 1 ? value : undefined;
  const producer = index.nodes[index.producerOf.get(value) ?? -1];
  if (producer === undefined || operatorOf(producer)?.weight === 'unpacked') return undefined;
  const traced = new Set(inputsOf(producer).flatMap((input) => traceWeight(model, index, input) ?? []));
  return traced.size === 1 ? [...traced][0] : undefined;
}

/** A scale or bias has one number per channel, which excludes tables and masks. */
const hasForm = ({ dims }: TensorHandle, form: ParameterForm): boolean =>
  form === 'vector' ? dims.slice(0, -1).every((dim) => dim === 1) : dims.length >= 2;

const sizeOf = ({ dims }: TensorHandle): number => dims.reduce((product, dim) => product * dim, 1);
