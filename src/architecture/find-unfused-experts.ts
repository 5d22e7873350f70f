import type { NodeProto } from 'onnx-buf';
import { intAttribute } from '../onnx/attributes.js';
import { extractStage } from '../onnx/extract-stage.js';
import { type GraphIndex, nodeLabel, producerNode, qualifiedOp } from '../onnx/graph-index.js';
import { influencedValues, outputsOf } from '../onnx/partition.js';
import { isSingleOrHalfPrecision } from '../onnx/retype-floats.js';
import { elementCount, positiveAxis } from '../onnx/value.js';
import type { AxisLabel } from '../operators/axis-rule.js';
import { countWeights, type ExpertSite, expertTrace, LAYOUTS, makeExpertSite } from './expert-site.js';
import type { OutputSearch } from './find-output-linears.js';
import { followRouter, MixtureStop } from './follow-router.js';
import type { UnfusedExperts } from './layout.js';
import type { ExpertBranch, NeuronTrace } from './trace-channels.js';
import { traceGatheredNeurons } from './trace-gathered-neurons.js';

/** An unfused mixture, recognised by its form: the router outputs that it reads, and how they are used. */
interface UnfusedForm extends Omit<UnfusedExperts, 'weights'> {
  /** Node that sums the experts. */
  readonly from: NodeProto;
  readonly nodeIndex: number;
  /** `[tokens, channels]` */
  readonly result: string;
  readonly expertCount: number;
  /** Weights with a row for each expert. */
  readonly stacked: readonly string[];
  readonly branches?: readonly ExpertBranch[];
  readonly neurons: NeuronTrace | { readonly reason: string };
  /** Nodes that shrink with the experts. */
  readonly nodes: readonly number[];
}

/**
 * Finds the unfused mixtures of a stage. In one form the weights of the chosen experts are gathered from stacks
 * `[experts, ..]` (transformers' `batched_mm`, as `torch.onnx.export(dynamo=True)` writes it); in the other every
 * expert is computed for every token, with a routing weight of 0 where it is not chosen (Mobius).
 *
 * @returns one function for each mixture, which throws `MixtureStop` with the reason why no expert can be removed.
 */
export function findUnfusedExperts(search: OutputSearch): (() => ExpertSite)[] {
  const stage = openStage(search);
  return [
    ...[...gathersByChoice(stage)].map(
      ([chosen, gathers]) =>
        () =>
          siteOf(stage, readGathered(stage, chosen, gathers)),
    ),
    ...[...testsByChoice(stage)].map(
      ([chosen, tests]) =>
        () =>
          siteOf(stage, readBranches(stage, chosen, tests)),
    ),
  ];
}

interface Stage {
  readonly search: OutputSearch;
  /** Indices of its nodes, in order. */
  readonly nodes: readonly number[];
  /** Values that depend on which experts are chosen. */
  readonly routed: ReadonlySet<string>;
  dims(value: string): readonly number[];
  /** Values of the stage that depend on others. */
  influenced(sources: readonly string[]): ReadonlySet<string>;
}

/** Operators whose output selects the experts of a token. */
const CHOOSING: ReadonlySet<string> = new Set(['TopK', 'ArgMax']);

function openStage(search: OutputSearch): Stage {
  const { index, partition, facts, stage } = search;
  const nodes = partition.stages[stage] ?? [];
  const influenced = (sources: readonly string[]) =>
    influencedValues(
      nodes.map((at) => index.nodes[at]!),
      sources,
    );
  const choosing = nodes.filter((at) => CHOOSING.has(qualifiedOp(index.nodes[at]!)));
  return {
    search,
    nodes,
    routed: influenced(outputsOf(index, choosing)),
    dims: (value) => facts.get(value)?.dims ?? [],
    influenced,
  };
}

/** The value before casts and changes of layout. */
function sourceOf(index: GraphIndex, value: string): string {
  const node = producerNode(index, value);
  return node !== undefined && LAYOUTS.has(node.opType) ? sourceOf(index, node.input[0] ?? '') : value;
}

const nodesReading = ({ search: { index }, nodes }: Stage, value: string): number[] => {
  const own = new Set(nodes);
  return (index.consumersOf.get(value) ?? []).filter((at) => own.has(at));
};

/** Gathers of expert weights, by the value with the chosen experts. */
function gathersByChoice({ search, nodes, routed, dims }: Stage): Map<string, number[]> {
  const { index } = search;
  const found = new Map<string, number[]>();
  for (const at of nodes) {
    const node = index.nodes[at]!;
    const [table = '', indices = ''] = node.input;
    const isFirst =
      (node.opType === 'Gather' && positiveAxis(intAttribute(node, 'axis', 0), dims(table).length) === 0) ||
      (node.opType === 'GatherND' && intAttribute(node, 'batch_dims', 0) === 0 && dims(indices).at(-1) === 1);
    if (!isFirst || !index.constants.has(table) || dims(table).length < 2 || !routed.has(indices)) continue;
    const chosen = sourceOf(index, indices);
    found.set(chosen, [...(found.get(chosen) ?? []), at]);
  }
  return found;
}

/** `Gather(stack, chosen) -> product -> .. -> product -> times the routing weights -> sum over the chosen`. */
function readGathered(stage: Stage, chosen: string, gathers: readonly number[]): UnfusedForm {
  const { search, nodes, dims, influenced } = stage;
  const { index } = search;
  const [first = 0] = gathers;
  const from = index.nodes[first]!;
  const stacked = gathers.map((at) => index.nodes[at]!.input[0]!);
  const expertCount = dims(stacked[0]!)[0] ?? 0;
  for (const name of stacked) {
    if (!index.initializers.has(name)) throw new MixtureStop(from, `its weights "${name}" are not a plain initializer`);
    if (dims(name)[0] !== expertCount)
      throw new MixtureStop(
        from,
        `"${name}" has ${dims(name)[0]} rows, expected one for each of ${expertCount} experts`,
      );
  }
  const count = dims(chosen).at(-1) ?? 0;
  const pairs = elementCount(dims(chosen));
  const inside = influenced(outputsOf(index, gathers));
  const weighing = nodes.find((at) => {
    const { opType, input } = index.nodes[at]!;
    return (
      opType === 'Mul' &&
      input.some((value) => inside.has(value)) &&
      input.some((value) => isRoutingWeight(stage, value, { inside, pairs }))
    );
  });
  if (weighing === undefined)
    throw new MixtureStop(from, 'its expert outputs are not multiplied by the routing weights');
  const { input, output } = index.nodes[weighing]!;
  const expertOutput = input.find((value) => inside.has(value))!;
  const routingWeights = sourceOf(index, input.find((value) => !inside.has(value))!);
  const { at: summing, result } = sumOver(stage, output[0]!, { count, pairs });
  return {
    from: index.nodes[summing]!,
    nodeIndex: summing,
    result,
    expertCount,
    stacked,
    nodes: gathers,
    chosen,
    routingWeights,
    outputs: [expertOutput],
    neurons: traceGatheredNeurons(search, { gathers, expertOutput, expertCount, pairs }),
  };
}

interface ChosenPairs {
  readonly inside: ReadonlySet<string>;
  /** Tokens times chosen experts. */
  readonly pairs: number;
}

/** Whether a value contains one routing weight for each chosen expert of each token, and is not an expert output. */
const isRoutingWeight = (
  { search: { dataValues, facts }, dims }: Stage,
  value: string,
  { inside, pairs }: ChosenPairs,
): boolean =>
  !inside.has(value) &&
  dataValues.has(value) &&
  isSingleOrHalfPrecision(facts.get(value)?.dataType ?? 0) &&
  elementCount(dims(value)) === pairs;

/** Follows weighted results of the chosen experts to their sum. */
function sumOver(
  stage: Stage,
  weighted: string,
  { count, pairs }: { readonly count: number; readonly pairs: number },
): { readonly at: number; readonly result: string } {
  const { search, dims } = stage;
  const { index, facts } = search;
  for (let value = weighted; ; ) {
    const [at, another] = nodesReading(stage, value);
    const node = index.nodes[at ?? -1];
    if (at === undefined || node === undefined || another !== undefined)
      throw new MixtureStop(index.nodes[index.producerOf.get(value)!]!, 'its expert outputs are not summed');
    const [result = ''] = node.output;
    if (LAYOUTS.has(node.opType)) {
      value = result;
      continue;
    }
    const axes = facts.get(node.input[1] ?? '')?.ints ?? [];
    const summed = axes.map((axis) => dims(value)[positiveAxis(axis, dims(value).length)]);
    const channels = dims(value).at(-1) ?? 0;
    if (
      node.opType !== 'ReduceSum' ||
      summed.length !== 1 ||
      summed[0] !== count ||
      elementCount(dims(value)) !== pairs * channels
    )
      throw new MixtureStop(node, 'its expert outputs are not summed over the chosen experts');
    return { at, result };
  }
}

/** Comparisons of chosen experts with an expert index, by the value with the chosen experts. */
function testsByChoice({ search, nodes, routed }: Stage): Map<string, number[]> {
  const { index, facts } = search;
  const found = new Map<string, number[]>();
  for (const at of nodes) {
    const { opType, input } = index.nodes[at]!;
    const chosen = input.find((value) => routed.has(value));
    const number = input.find((value) => index.constants.has(value));
    if (opType !== 'Equal' || chosen === undefined || facts.get(number ?? '')?.ints?.length !== 1) continue;
    found.set(sourceOf(index, chosen), [...(found.get(sourceOf(index, chosen)) ?? []), at]);
  }
  return found;
}

/** `routing weights where chosen = e -> sum -> times the output of expert e -> added to the others'`, for each expert. */
function readBranches(stage: Stage, chosen: string, tests: readonly number[]): UnfusedForm {
  const { search, dims, influenced } = stage;
  const { index, facts } = search;
  const from = index.nodes[tests[0]!]!;
  const pairs = elementCount(dims(chosen));
  const byExpert = new Map<
    number,
    { readonly branch: ExpertBranch; readonly output: string; readonly routingWeights: string }
  >();
  for (const at of tests) {
    const node = index.nodes[at]!;
    const slot = node.input.findIndex((value) => index.constants.has(value));
    const [expert = -1] = facts.get(node.input[slot] ?? '')?.ints ?? [];
    const [test = ''] = node.output;
    const inside = influenced([test]);
    const multiplying = stage.nodes.filter((other) => {
      const { opType, input } = index.nodes[other]!;
      return opType === 'Mul' && input.filter((value) => inside.has(value)).length === 1;
    });
    const other = (product: number) => index.nodes[product]!.input.find((value) => !inside.has(value)) ?? '';
    const selecting = multiplying.find((product) => isRoutingWeight(stage, other(product), { inside, pairs }));
    const weighing = multiplying.find(
      (product) =>
        product > (selecting ?? product) &&
        elementCount(dims(other(product))) > pairs &&
        !stage.routed.has(other(product)),
    );
    if (selecting === undefined || weighing === undefined || byExpert.has(expert))
      throw new MixtureStop(node, `expert ${expert} is not multiplied by one routing weight`);
    byExpert.set(expert, {
      branch: { test, slot, term: index.nodes[weighing]!.output[0] ?? '' },
      output: other(weighing),
      routingWeights: sourceOf(index, other(selecting)),
    });
  }
  const expertCount = byExpert.size;
  const experts = Array.from({ length: expertCount }, (_, expert) => byExpert.get(expert));
  const [firstExpert] = experts;
  if (firstExpert === undefined || experts.some((expert) => expert?.routingWeights !== firstExpert.routingWeights))
    throw new MixtureStop(from, `its experts are not numbered from 0 to ${expertCount - 1}`);
  const branches = experts.map((expert) => expert!.branch);
  const { at, result } = sumOfTerms(
    stage,
    branches.map(({ term }) => term),
  );
  return {
    from: index.nodes[at]!,
    nodeIndex: at,
    result,
    expertCount,
    stacked: [],
    nodes: tests,
    branches,
    chosen,
    routingWeights: firstExpert.routingWeights,
    outputs: experts.map((expert) => expert!.output),
    neurons: { reason: 'each expert has nodes of its own' },
  };
}

/** The sum of all terms, by a chain of additions without other terms. */
function sumOfTerms(stage: Stage, terms: readonly string[]): { readonly at: number; readonly result: string } {
  const { index } = stage.search;
  const sums = new Set(terms);
  let [value = ''] = terms;
  let at = index.producerOf.get(value)!;
  for (let left = terms.length - 1; left > 0; left -= 1) {
    const [next, another] = nodesReading(stage, value);
    const node = index.nodes[next ?? -1];
    if (
      next === undefined ||
      node?.opType !== 'Add' ||
      another !== undefined ||
      !node.input.every((term) => sums.has(term))
    )
      throw new MixtureStop(index.nodes[at]!, 'its expert outputs are not summed by a chain of additions');
    [value = ''] = node.output;
    sums.add(value);
    at = next;
  }
  return { at, result: value };
}

/** @throws MixtureStop */
function siteOf(stage: Stage, form: UnfusedForm): ExpertSite {
  const { search, dims } = stage;
  const { index, facts } = search;
  const { from, chosen, routingWeights, outputs, result, expertCount, stacked, branches, neurons } = form;
  const unitIds = Int32Array.from({ length: expertCount }, (_, expert) => expert);
  const labels = new Map<string, AxisLabel>(stacked.map((name) => [name, { axis: 0, unitIds }]));
  const nodes = new Set(form.nodes);
  const router = followRouter(search, {
    from,
    starts: [chosen, routingWeights],
    isChosen: true,
    unitIds,
    labels,
    nodes,
  });
  const input = commonInput(stage, form, router.inputs);
  const isTraced = !('reason' in neurons);
  const parts = { index, labels, nodes, expertCount, ...(branches && { branches }) };
  const trace = expertTrace({ ...parts, neurons: isTraced ? neurons : undefined });
  const weights = weightsOf(stage, outputs, [input, chosen]).filter((name) => !trace.external.has(name));
  return makeExpertSite({
    linear: {
      nodeIndex: form.nodeIndex,
      node: nodeLabel(from),
      input: router.results[0]!,
      result,
      weight: stacked.at(-1) ?? weights.at(-1) ?? '',
      outputCount: dims(result).at(-1) ?? 0,
    },
    input,
    trace,
    router,
    expertsPerToken: dims(chosen).at(-1) ?? 1,
    parametersPerExpert: countWeights([...trace.external, ...weights], facts) / expertCount,
    unfused: { chosen, routingWeights, outputs, weights },
    neurons: isTraced
      ? {
          unitCount: neurons.unitCount,
          unitSize: 1,
          parametersPerUnit: countWeights(neurons.external, facts) / (expertCount * neurons.unitCount),
        }
      : neurons,
  });
}

/** The only value that router and experts are computed from. @throws MixtureStop */
function commonInput(
  { search: { index }, dims }: Stage,
  { from, chosen, routingWeights, outputs, result }: UnfusedForm,
  [read = '']: readonly string[],
): string {
  const dependOnlyOn = (values: readonly string[], known: readonly string[]) =>
    extractStage(index, { outputs: values, isAvailable: (value) => known.includes(value) }).inputs.every((value) =>
      known.includes(value),
    );
  for (let value = read; ; ) {
    if (dependOnlyOn([chosen, routingWeights], [value]) && dependOnlyOn(outputs, [value, chosen])) {
      if (dims(value).at(-1) === dims(result).at(-1)) return value;
      throw new MixtureStop(
        from,
        `its experts output ${dims(result).at(-1)} channels and read ${dims(value).at(-1)}, expected the same number`,
      );
    }
    const node = producerNode(index, value);
    if (node === undefined || !LAYOUTS.has(node.opType))
      throw new MixtureStop(from, `its experts do not read "${read}", the input of its router`);
    value = node.input[0] ?? '';
  }
}

/** Weights that some values are computed with, starting from known values. */
function weightsOf(
  { search: { index, facts } }: Stage,
  outputs: readonly string[],
  known: readonly string[],
): string[] {
  return extractStage(index, { outputs, isAvailable: (value) => known.includes(value) }).initializers.filter((name) => {
    const fact = facts.get(name);
    return fact !== undefined && isSingleOrHalfPrecision(fact.dataType) && elementCount(fact.dims) > 1;
  });
}
