import type { NodeProto } from 'onnx-buf';
import { intAttribute } from '../graph/attributes.js';
import { type GraphIndex, inputsOf, nodeLabel, qualifiedOp } from '../graph/graph-index.js';
import { isFloatType } from '../graph/retype-floats.js';
import type { AxisLabel } from '../operators/axis-rule.js';
import { expertTensors, FUSED_MIXTURES } from '../operators/experts.js';
import {
  isLinearNode,
  type LinearSite,
  type OutputSearch,
  readLinear,
  type SearchStop,
} from './find-output-linears.js';
import type { ChannelTrace } from './trace-channels.js';

/** A mixture of experts in one operator, with all that one expert owns. */
export interface ExpertSite {
  /** The operator, with the router's scores as input: `[tokens, experts]`. */
  readonly linear: LinearSite;
  /** What the experts read. */
  readonly input: string;
  readonly trace: ChannelTrace;
  /** Experts that each token goes to. */
  readonly expertsPerToken: number;
}

/**
 * Finds the mixtures of a stage that are one operator each, and follows their scores back to the router's product.
 * A mixture that cannot lose an expert comes back with the reason.
 */
export function findExperts(search: OutputSearch): { sites: ExpertSite[]; stops: SearchStop[] } {
  const sites: ExpertSite[] = [];
  const stops: SearchStop[] = [];
  for (const at of search.partition.stages[search.stage] ?? []) {
    const node = search.index.nodes[at]!;
    if (!FUSED_MIXTURES.has(qualifiedOp(node))) continue;
    try {
      sites.push(readMixture(search, at));
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

/** Ends the search at a node, with the reason. */
class MixtureStop extends Error {
  constructor(
    readonly node: NodeProto,
    reason: string,
  ) {
    super(reason);
  }
}

function readMixture(search: OutputSearch, at: number): ExpertSite {
  const { index, facts } = search;
  const node = index.nodes[at]!;
  const [input = '', scores = ''] = node.input;
  const [result = ''] = node.output;
  const [expertCount = 0, outputCount = 0] = [scores, result].map((value) => facts.get(value)?.dims.at(-1));
  const tensors = expertTensors(node);
  const labels = new Map<string, AxisLabel>();
  const codes = Int32Array.from({ length: expertCount }, (_, expert) => expert);
  for (const name of tensors.all) {
    if (!index.initializers.has(name) || facts.get(name)?.dims[0] !== expertCount)
      throw new MixtureStop(node, `its input "${name}" is no weight with one row for each of ${expertCount} experts`);
    labels.set(name, { axis: 0, codes });
  }
  if (tensors.extra !== undefined)
    throw new MixtureStop(node, `it takes "${tensors.extra}" beside the scores, and such experts cannot be pruned yet`);
  const nodes = new Set([at]);
  followRouter(search, { from: node, scores, codes, labels, nodes });
  return {
    linear: {
      nodeIndex: at,
      node: nodeLabel(node),
      input: scores,
      result,
      weight: tensors.second,
      inputAxis: 0,
      inputCount: expertCount,
      outputCount,
    },
    input,
    trace: {
      unitCount: expertCount,
      unitSize: 1,
      headsPerUnit: 1,
      labels,
      handed: new Set([...labels.keys()].filter((value) => index.initializers.has(value))),
      nodes: [...nodes].sort((a, b) => a - b),
      repeats: [],
      sharesKeyValue: false,
      keepsKeyValues: false,
      isAttention: false,
      isLinear: false,
    },
    expertsPerToken: intAttribute(node, 'k', 1),
  };
}

/** Operators between the router's product and the mixture that treat all experts alike, so that any of them can be removed. */
const ALIKE: ReadonlySet<string> = new Set([
  ...[
    'Add',
    'Sub',
    'Mul',
    'Div',
    'Neg',
    'Abs',
    'Sqrt',
    'Exp',
    'Log',
    'Reciprocal',
    'Sigmoid',
    'Tanh',
    'Softplus',
    'Relu',
  ],
  ...['Softmax', 'LogSoftmax', 'Where', 'Min', 'Max', 'Clip', 'Cast', 'Identity', 'Constant', 'ConstantOfShape'],
  ...['Reshape', 'Squeeze', 'Unsqueeze', 'Expand', 'Shape', 'Slice', 'Gather', 'Concat', 'ScatterElements'],
  ...['Greater', 'GreaterOrEqual', 'Less', 'LessOrEqual', 'And', 'Or', 'Not'],
]);

/** Operators that see all experts of a token and hand out something without an axis of experts. */
const ENDING: ReadonlySet<string> = new Set([...['TopK', 'GatherElements', 'Shape']]);

interface RouterWalk {
  readonly from: NodeProto;
  readonly scores: string;
  /** By expert. */
  readonly codes: Int32Array;
  /** Gets every value with an axis of experts. */
  readonly labels: Map<string, AxisLabel>;
  /** Gets every node on the way. */
  readonly nodes: Set<number>;
}

/** Walks back from the scores to the products with the router's weight. @throws MixtureStop */
function followRouter(search: OutputSearch, { from, scores, codes, labels, nodes }: RouterWalk): void {
  const { index, facts, dataValues, partition, stage } = search;
  const dimsOf = (value: string) => facts.get(value)?.dims ?? [];
  const hasExperts = (value: string) => dimsOf(value).length > 0 && dimsOf(value).at(-1) === codes.length;
  const isInGroups = (value: string) => {
    const dims = dimsOf(value);
    return dims.length > dimsOf(scores).length && !hasExperts(value) && dims.at(-1)! * dims.at(-2)! === codes.length;
  };
  const label = (value: string): void => {
    labels.set(value, { axis: dimsOf(value).length - 1, codes });
  };
  if (!hasExperts(scores)) throw new MixtureStop(from, `the scores "${scores}" have no axis of experts`);
  const pending = [{ value: scores, reader: from }];
  const seen = new Set<string>();
  let productCount = 0;
  for (let next = pending.pop(); next !== undefined; next = pending.pop()) {
    const { value, reader } = next;
    if (value === '' || seen.has(value)) continue;
    seen.add(value);
    const at = index.producerOf.get(value);
    const isMade = at !== undefined && (index.constants.has(value) || partition.stageOf.get(value) === stage);
    if (!isMade) {
      if (dataValues.has(value) || (at !== undefined && !index.constants.has(value)))
        throw new MixtureStop(reader, `the router is no product with a weight: it reads "${value}" itself`);
      // Integers are shapes and indices, which the nodes that read them mend.
      if (index.initializers.has(value) && hasExperts(value) && isFloat(search, value)) label(value);
      continue;
    }
    const node = index.nodes[at]!;
    const { opType } = node;
    // Sizes go on speaking of the dense model, see `removeUnits`.
    if (opType !== 'Shape') nodes.add(at);
    if (isLinearNode(index, at)) {
      labelProduct(search, { at, codes, labels, nodes });
      label(value);
      productCount += 1;
      continue;
    }
    const group = [...inputsOf(node), value].find((name) => isFloat(search, name) && isInGroups(name));
    if (group !== undefined)
      throw new MixtureStop(
        node,
        `experts are chosen in groups: "${group}" is [${dimsOf(group).join(', ')}], expected ${codes.length} experts on the last axis`,
      );
    const isEnding = ENDING.has(opType) && inputsOf(node).some((input) => hasExperts(input));
    if (node.domain !== '' || (!ALIKE.has(opType) && !isEnding))
      throw new MixtureStop(
        node,
        `the router is no product with a weight: experts cannot be followed through ${qualifiedOp(node)}`,
      );
    if (hasExperts(value) && !isInteger(search, value)) label(value);
    else if (!isEnding && inputsOf(node).some((input) => hasExperts(input) && isFloat(search, input)))
      throw new MixtureStop(node, `it makes [${dimsOf(value).join(', ')}] of ${codes.length} experts`);
    pending.push(...node.input.map((input) => ({ value: input, reader: node })));
  }
  if (productCount === 0)
    throw new MixtureStop(from, 'the router is no product with a weight: its scores do not depend on the tokens');
}

interface RouterProduct extends Pick<RouterWalk, 'codes' | 'labels' | 'nodes'> {
  readonly at: number;
}

/** Labels the weight of a router's product, and the values that it comes through. */
function labelProduct(search: OutputSearch, { at, codes, labels, nodes }: RouterProduct): void {
  const { index, facts } = search;
  const node = index.nodes[at]!;
  const site = readLinear(search, at);
  if ('reason' in site) throw new MixtureStop(node, site.reason);
  if (site.outputCount !== codes.length)
    throw new MixtureStop(
      node,
      `it makes ${site.outputCount} scores, expected one for each of ${codes.length} experts`,
    );
  let axis: number = 1 - site.inputAxis;
  let name = site.weight;
  labels.set(name, { axis, codes });
  for (const producer of pathToWeight(index, node.input[1] ?? '').toReversed()) {
    const made = index.nodes[producer]!;
    if (made.opType === 'Transpose') axis = 1 - axis;
    [name = ''] = made.output;
    labels.set(name, { axis, codes });
    nodes.add(producer);
  }
  const bias = node.input[2] ?? '';
  if (index.constants.has(bias) && facts.get(bias)?.dims.at(-1) === codes.length) {
    if (!index.initializers.has(bias)) throw new MixtureStop(node, `its bias "${bias}" is no plain weight`);
    labels.set(bias, { axis: facts.get(bias)!.dims.length - 1, codes });
  }
}

/** Nodes between a weight and the value that a product reads, the last first. */
function pathToWeight(index: GraphIndex, value: string): number[] {
  const at = index.initializers.has(value) ? undefined : index.producerOf.get(value);
  return at === undefined ? [] : [at, ...pathToWeight(index, index.nodes[at]!.input[0] ?? '')];
}

const INTEGERS: ReadonlySet<number> = new Set([6, 7]);

const isFloat = ({ facts }: OutputSearch, value: string): boolean => isFloatType(facts.get(value)?.dataType ?? 0);
const isInteger = ({ facts }: OutputSearch, value: string): boolean => INTEGERS.has(facts.get(value)?.dataType ?? 0);
