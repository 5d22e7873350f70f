import type { GraphIndex } from '../onnx/graph-index.js';
import { elementCount } from '../onnx/value.js';
import type { ValueFacts } from '../onnx/value-facts.js';
import type { AxisLabel } from '../operators/axis-rule.js';
import type { ExpertTensors } from '../operators/experts.js';
import type { LinearSite } from './find-output-linears.js';
import type { FollowedRouter } from './follow-router.js';
import type { ExpertNeurons, UnfusedExperts } from './layout.js';
import type { ChannelTrace, ExpertBranch, NeuronTrace } from './trace-channels.js';

/** A mixture of experts, with everything that belongs to each expert. */
export interface ExpertSite {
  /** The mixing product, with the router's scores as input: `[tokens, experts]`. */
  readonly linear: LinearSite;
  /** Input of the experts. */
  readonly input: string;
  readonly trace: ChannelTrace;
  /** Experts per token (top-k). */
  readonly expertsPerToken: number;
  /** Experts that must remain. */
  readonly leastExperts: number;
  /** Groups of consecutive experts, which must remain equal in size. Absent: none. */
  readonly groupCount?: number;
  /** Weights of the experts and of their router, for one expert. */
  readonly parametersPerExpert: number;
  /** Only of an unfused mixture. */
  readonly unfused?: UnfusedExperts;
  /** One neuron of one expert, or the reason why neurons cannot be removed. */
  readonly neurons: ExpertNeurons | { readonly reason: string };
}

/** Operators that only change shape or precision and keep the order of elements. */
export const LAYOUTS: ReadonlySet<string> = new Set(['Reshape', 'Squeeze', 'Unsqueeze', 'Flatten', 'Identity', 'Cast']);

/** A mixture whose router has been traced. */
export interface FoundMixture
  extends Pick<ExpertSite, 'input' | 'expertsPerToken' | 'parametersPerExpert' | 'unfused' | 'neurons'> {
  readonly linear: Omit<LinearSite, 'inputAxis' | 'inputCount'>;
  readonly trace: ChannelTrace;
  readonly router: Pick<FollowedRouter, 'leastExperts' | 'groupCount'>;
}

/** Describes a mixture as a site that writes to the stream, with one channel per expert. */
export const makeExpertSite = ({ linear, trace, router, expertsPerToken, ...site }: FoundMixture): ExpertSite => ({
  ...site,
  linear: { ...linear, inputAxis: 0, inputCount: trace.unitCount },
  trace,
  expertsPerToken,
  leastExperts: Math.max(expertsPerToken, router.leastExperts),
  ...(router.groupCount !== undefined && { groupCount: router.groupCount }),
});

/** Parts of a mixture's trace. */
export interface ExpertTraceParts {
  readonly index: GraphIndex;
  readonly labels: ReadonlyMap<string, AxisLabel>;
  readonly nodes: ReadonlySet<number>;
  readonly expertCount: number;
  /** Present where each expert has its own nodes. */
  readonly branches?: readonly ExpertBranch[];
  readonly neurons?: NeuronTrace | undefined;
}

/** The trace of a mixture, with one unit per expert. */
export const expertTrace = ({
  index,
  labels,
  nodes,
  expertCount,
  branches,
  neurons,
}: ExpertTraceParts): ChannelTrace => ({
  unitCount: expertCount,
  unitSize: 1,
  headsPerUnit: 1,
  labels,
  external: new Set([...labels.keys()].filter((value) => index.initializers.has(value))),
  nodes: [...nodes].sort((a, b) => a - b),
  repeats: [],
  sharesKeyValue: false,
  keepsKeyValues: false,
  isAttention: false,
  isLinear: false,
  ...(branches && { branches }),
  ...(neurons && { neurons }),
});

/** Number of parameters: packed codes count as the weights that they encode, scales are not counted. */
export function countWeights(
  names: Iterable<string>,
  facts: ValueFacts,
  { codes, scales, perCode }: Pick<ExpertTensors, 'codes' | 'scales' | 'perCode'> = {
    codes: [],
    scales: [],
    perCode: 1,
  },
): number {
  return [...names]
    .filter((name) => !scales.includes(name))
    .reduce((sum, name) => sum + elementCount(facts.get(name)?.dims ?? []) * (codes.includes(name) ? perCode : 1), 0);
}
