import { intAttribute } from '../onnx/attributes.js';
import { nodeLabel, qualifiedOp } from '../onnx/graph-index.js';
import type { AxisLabel } from '../operators/axis-rule.js';
import { expertTensors, FUSED_MIXTURES, type NeuronAxes, neuronAxes } from '../operators/experts.js';
import { countWeights, type ExpertSite, expertTrace, makeExpertSite } from './expert-site.js';
import type { OutputSearch, SearchStop } from './find-output-linears.js';
import { findUnfusedExperts } from './find-unfused-experts.js';
import { followRouter, MixtureStop } from './follow-router.js';
import type { ExpertNeurons } from './layout.js';
import type { NeuronTrace } from './trace-channels.js';

/**
 * Finds the mixtures of a stage, fused or unfused, and traces each router back to its linear layer. A mixture whose
 * experts cannot be removed is returned with the reason.
 */
export function findExperts(search: OutputSearch): { sites: ExpertSite[]; stops: SearchStop[] } {
  const sites: ExpertSite[] = [];
  const stops: SearchStop[] = [];
  const fused = (search.partition.stages[search.stage] ?? []).filter((at) =>
    FUSED_MIXTURES.has(qualifiedOp(search.index.nodes[at]!)),
  );
  for (const read of [...fused.map((at) => () => readMixture(search, at)), ...findUnfusedExperts(search)]) {
    try {
      sites.push(read());
    } catch (error) {
      if (!(error instanceof MixtureStop)) throw error;
      stops.push({
        kind: 'experts',
        node: nodeLabel(error.node),
        opType: qualifiedOp(error.node),
        reason: error.message,
      });
    }
  }
  return { sites, stops };
}

function readMixture(search: OutputSearch, at: number): ExpertSite {
  const { index, facts } = search;
  const node = index.nodes[at]!;
  const [input = '', scores = ''] = node.input;
  const [result = ''] = node.output;
  const [expertCount = 0, outputCount = 0] = [scores, result].map((value) => facts.get(value)?.dims.at(-1));
  const tensors = expertTensors(node);
  const labels = new Map<string, AxisLabel>();
  const unitIds = Int32Array.from({ length: expertCount }, (_, expert) => expert);
  for (const name of tensors.all) {
    if (!index.initializers.has(name) || facts.get(name)?.dims[0] !== expertCount)
      throw new MixtureStop(
        node,
        `its input "${name}" is not a weight with one row for each of ${expertCount} experts`,
      );
    labels.set(name, { axis: 0, unitIds });
  }
  if (tensors.extra !== undefined)
    throw new MixtureStop(
      node,
      `it reads "${tensors.extra}" in addition to the scores, and such experts cannot be pruned yet`,
    );
  const nodes = new Set([at]);
  const router = followRouter(search, { from: node, starts: [scores], isChosen: false, unitIds, labels, nodes });
  const axes = neuronAxes(node, (name) => facts.get(name)?.dims ?? []);
  const neurons = 'reason' in axes ? undefined : traceNeurons(axes, at);
  const trace = expertTrace({ index, labels, nodes, expertCount, neurons });
  return makeExpertSite({
    linear: { nodeIndex: at, node: nodeLabel(node), input: scores, result, weight: tensors.second, outputCount },
    input,
    trace,
    router,
    expertsPerToken: intAttribute(node, 'k', 1),
    parametersPerExpert: countWeights(trace.external, facts, tensors) / expertCount,
    neurons:
      'reason' in axes ? axes : countNeurons(axes, countWeights(axes.labels.keys(), facts, tensors) / expertCount),
  });
}

const traceNeurons = ({ neuronCount, unitSize, labels, second }: NeuronAxes, at: number): NeuronTrace => ({
  unitCount: neuronCount / unitSize,
  labels,
  external: new Set(labels.keys()),
  nodes: [at],
  second,
});

/** @param parameters weights of all neurons of one expert */
const countNeurons = ({ neuronCount, unitSize }: NeuronAxes, parameters: number): ExpertNeurons => ({
  unitCount: neuronCount / unitSize,
  unitSize,
  parametersPerUnit: (parameters * unitSize) / neuronCount,
});
