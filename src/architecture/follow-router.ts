import type { NodeProto } from 'onnx-buf';
import { INT32, INT64 } from '../onnx/data-types.js';
import { type GraphIndex, inputsOf, qualifiedOp } from '../onnx/graph-index.js';
import { isSingleOrHalfPrecision } from '../onnx/retype-floats.js';
import { elementCount } from '../onnx/value.js';
import type { AxisLabel } from '../operators/axis-rule.js';
import { isLinearNode, type OutputSearch, readLinear } from './find-output-linears.js';

/** Thrown where a mixture cannot be traced further: the node and the reason. */
export class MixtureStop extends Error {
  constructor(
    readonly node: NodeProto,
    reason: string,
  ) {
    super(reason);
  }
}

/** Operators between the router's product and the mixture that are equivariant under permutations of the experts: any of them can be removed. */
const EQUIVARIANT: ReadonlySet<string> = new Set([
  ...['Add', 'Sub', 'Mul', 'Div', 'Neg', 'Abs', 'Sqrt', 'Exp', 'Log', 'Reciprocal'],
  ...['Sigmoid', 'Tanh', 'Softplus', 'Relu'],
  ...['Softmax', 'LogSoftmax', 'Where', 'Min', 'Max', 'Clip', 'Cast', 'Identity', 'Constant', 'ConstantOfShape'],
  ...['Reshape', 'Squeeze', 'Unsqueeze', 'Expand', 'Shape', 'Slice', 'Gather', 'Concat', 'ScatterElements'],
  ...['Greater', 'GreaterOrEqual', 'Less', 'LessOrEqual', 'And', 'Or', 'Not'],
]);

/** Operators that reduce the axis of experts. */
const REDUCING: ReadonlySet<string> = new Set(['TopK', 'ArgMax', 'ReduceMax', 'GatherElements', 'Shape']);

/** Operators that change no number along an axis of one element, such as the experts of a group of one. */
const SUMS: ReadonlySet<string> = new Set(['ReduceSum', 'ReduceMean']);

/** Slots of inputs with an axis of the chosen experts, next to an input with an axis of all experts. */
const CHOSEN_SLOTS: Readonly<Record<string, readonly number[]>> = { ScatterElements: [1, 2], GatherElements: [1] };

/** A value to trace back. */
interface Step {
  readonly value: string;
  readonly reader: NodeProto;
  /** Whether it depends on the choice, so that its last axis is not that of all experts. */
  readonly isAfterChoice: boolean;
}

/** A router, traced back from the values that a mixture reads. */
export interface RouterWalk {
  readonly from: NodeProto;
  /** The scores of all experts, or the chosen experts and their routing weights. */
  readonly starts: readonly string[];
  /** Whether the starts are the latter. */
  readonly isChosen: boolean;
  /** By expert. */
  readonly unitIds: Int32Array;
  /** Collects every value with an axis of experts. */
  readonly labels: Map<string, AxisLabel>;
  /** Collects every node on the path. */
  readonly nodes: Set<number>;
}

/** A traced router. */
export interface FollowedRouter {
  /** Experts that must remain, because the router chooses that many. */
  readonly leastExperts: number;
  /** Groups of consecutive experts that the router chooses first (`n_group`). Absent: none. */
  readonly groupCount?: number;
  /** Inputs of its products; at least one. */
  readonly inputs: readonly string[];
  /** Their results, `[.., experts]`; equally many. */
  readonly results: readonly string[];
}

/** Walks back from the scores, or the choice, to the products with the router's weight. @throws MixtureStop */
export function followRouter(
  search: OutputSearch,
  { from, starts, isChosen, unitIds, labels, nodes }: RouterWalk,
): FollowedRouter {
  const { index, facts, dataValues, partition, stage } = search;
  const dimsOf = (value: string) => facts.get(value)?.dims ?? [];
  const isUngrouped = (value: string) => dimsOf(value).length > 0 && dimsOf(value).at(-1) === unitIds.length;
  const rank = Math.max(...starts.map((value) => dimsOf(value).length));
  const isInGroups = (value: string) => {
    const dims = dimsOf(value);
    return dims.length > rank && !isUngrouped(value) && dims.at(-1)! * dims.at(-2)! === unitIds.length;
  };
  const hasExperts = (value: string) => isUngrouped(value) || isInGroups(value);
  const groupCounts = new Set<number>();
  const label = (value: string): void => {
    const dims = dimsOf(value);
    // All groups lose the same number, so that the first gives the remaining count of each.
    labels.set(value, { axis: dims.length - 1, unitIds: unitIds.subarray(0, dims.at(-1)) });
    if (isInGroups(value)) groupCounts.add(dims.at(-2)!);
  };
  // Sizes cannot tell chosen experts from all where as many are chosen as exist, in all or in a group. None can be removed there.
  const widths = choiceWidths(search);
  const maybeChosen = (value: string) =>
    !hasExperts(value) ||
    isInteger(search, value) ||
    dimsOf(value)
      .slice(isUngrouped(value) ? -1 : -2)
      .some((dim) => widths.has(dim));
  const choices: string[][] = [];
  const pending: Step[] = starts.map((value) => ({ value, reader: from, isAfterChoice: isChosen }));
  // Values of which only sizes are read come last, since other readers determine their axis.
  const pendingShapes: Step[] = [];
  const seen = { before: new Set<string>(), after: new Set<string>() };
  const isDone = ({ value, isAfterChoice }: Step, isShape: boolean) => {
    const [own, other] = isAfterChoice ? [seen.after, seen.before] : [seen.before, seen.after];
    return own.has(value) || (other.has(value) && (isShape || !hasExperts(value)));
  };
  const inputs: string[] = [];
  const results: string[] = [];
  for (;;) {
    const isShape = pending.length === 0;
    const step = pending.pop() ?? pendingShapes.pop();
    if (step === undefined) break;
    const { value, reader, isAfterChoice } = step;
    if (value === '' || isDone(step, isShape)) continue;
    (isAfterChoice ? seen.after : seen.before).add(value);
    const at = index.producerOf.get(value);
    const isComputed = at !== undefined && (index.constants.has(value) || partition.stageOf.get(value) === stage);
    if (!isComputed) {
      if (dataValues.has(value) || (at !== undefined && !index.constants.has(value)))
        throw new MixtureStop(reader, `the router is not a product with a weight: it reads "${value}" itself`);
      // Integers are shapes and indices, which the nodes that read them update.
      if (!isAfterChoice && index.initializers.has(value) && hasExperts(value) && !isInteger(search, value))
        label(value);
      continue;
    }
    const node = index.nodes[at]!;
    const { opType } = node;
    if (opType === 'Constant' && !isAfterChoice && unitIds.length > 1 && hasExperts(value) && !isInteger(search, value))
      throw new MixtureStop(reader, `"${value}" has a number for each expert and is not a plain weight`);
    // Sizes are still those of the dense model, see `removeUnits`.
    if (opType !== 'Shape') nodes.add(at);
    if (isLinearNode(index, at)) {
      labelProduct(search, { at, unitIds, labels, nodes });
      // The path from the chosen experts to the scores has no choice (TopK) on it: an unknown form.
      if (isAfterChoice) throw stopAt(reader);
      label(value);
      inputs.push(node.input[0] ?? '');
      results.push(value);
      continue;
    }
    const isReducing = REDUCING.has(opType) && inputsOf(node).some((input) => hasExperts(input));
    const isView = SUMS.has(opType) && elementCount(dimsOf(value)) === elementCount(dimsOf(node.input[0] ?? ''));
    // Operators on chosen experts only may be of any kind.
    const readsChosen = isAfterChoice && [...inputsOf(node), value].every(maybeChosen);
    if (node.domain !== '' || (!readsChosen && !EQUIVARIANT.has(opType) && !isReducing && !isView)) throw stopAt(node);
    if (!readsChosen) {
      if (hasExperts(value) && !isInteger(search, value)) label(value);
      else if (!isReducing && inputsOf(node).some((input) => hasExperts(input) && isFloat(search, input)))
        throw new MixtureStop(node, `it outputs [${dimsOf(value).join(', ')}] for ${unitIds.length} experts`);
    }
    if (opType === 'TopK') choices.push([...node.input]);
    // A mask of groups has one number per group until it is expanded to experts. The target shape may have as many
    // entries as there are experts.
    const isCopied = opType === 'Expand' && !hasExperts(node.input[0] ?? '');
    const steps = node.input.map((input, slot): Step => {
      const isOfChosen = CHOSEN_SLOTS[opType]?.includes(slot) ?? false;
      return {
        value: input,
        reader: node,
        isAfterChoice: isOfChosen || isCopied || (readsChosen && !(isReducing && hasExperts(input))),
      };
    });
    (opType === 'Shape' ? pendingShapes : pending).push(...steps);
  }
  if (results.length === 0)
    throw new MixtureStop(from, 'the router is not a product with a weight: its scores do not depend on the tokens');
  const [groupCount, another] = groupCounts;
  if (another !== undefined) throw new MixtureStop(from, `its experts are in ${groupCount} groups and in ${another}`);
  const chosenOf = (read: (value: string) => boolean): number =>
    Math.max(1, ...choices.flatMap(([value = '', count = '']) => (read(value) ? (facts.get(count)?.ints ?? []) : [])));
  const count = chosenOf(isUngrouped);
  if (groupCount === undefined) return { leastExperts: count, inputs, results };
  const groups = chosenOf((value) => dimsOf(value).at(-1) === groupCount && !hasExperts(value));
  const perGroup = Math.max(chosenOf(isInGroups), Math.ceil(count / groups));
  return { leastExperts: perGroup * groupCount, groupCount, inputs, results };
}

/** Numbers of elements that nodes of the stage choose: k of TopK, 1 of ArgMax. */
function choiceWidths({ index, partition, facts, stage }: OutputSearch): ReadonlySet<number> {
  const counts = (partition.stages[stage] ?? []).flatMap((at) => {
    const { opType, input } = index.nodes[at]!;
    if (opType === 'ArgMax') return [1];
    return opType === 'TopK' ? (facts.get(input[1] ?? '')?.ints ?? []) : [];
  });
  return new Set(counts);
}

const stopAt = (node: NodeProto): MixtureStop =>
  new MixtureStop(
    node,
    `the router is not a product with a weight: experts cannot be followed through ${qualifiedOp(node)}`,
  );

interface RouterProduct extends Pick<RouterWalk, 'unitIds' | 'labels' | 'nodes'> {
  readonly at: number;
}

/** Labels the weight of a router's product, and the values between weight and product. */
function labelProduct(search: OutputSearch, { at, unitIds, labels, nodes }: RouterProduct): void {
  const { index, facts } = search;
  const node = index.nodes[at]!;
  const site = readLinear(search, at);
  if ('reason' in site) throw new MixtureStop(node, site.reason);
  if (site.outputCount !== unitIds.length)
    throw new MixtureStop(
      node,
      `it outputs ${site.outputCount} scores, expected one for each of ${unitIds.length} experts`,
    );
  let axis: number = 1 - site.inputAxis;
  let name = site.weight;
  labels.set(name, { axis, unitIds });
  for (const producer of pathToWeight(index, node.input[1] ?? '').toReversed()) {
    const { opType, output } = index.nodes[producer]!;
    if (opType === 'Transpose') axis = 1 - axis;
    [name = ''] = output;
    labels.set(name, { axis, unitIds });
    nodes.add(producer);
  }
  const bias = node.input[2] ?? '';
  if (index.constants.has(bias) && facts.get(bias)?.dims.at(-1) === unitIds.length) {
    if (!index.initializers.has(bias)) throw new MixtureStop(node, `its bias "${bias}" is not a plain weight`);
    labels.set(bias, { axis: facts.get(bias)!.dims.length - 1, unitIds });
  }
}

/** Nodes between a weight and the value that a product reads, the last first. */
function pathToWeight(index: GraphIndex, value: string): number[] {
  const at = index.initializers.has(value) ? undefined : index.producerOf.get(value);
  return at === undefined ? [] : [at, ...pathToWeight(index, index.nodes[at]!.input[0] ?? '')];
}

const INTEGERS: ReadonlySet<number> = new Set([INT32, INT64]);

const isFloat = ({ facts }: OutputSearch, value: string): boolean =>
  isSingleOrHalfPrecision(facts.get(value)?.dataType ?? 0);
const isInteger = ({ facts }: OutputSearch, value: string): boolean => INTEGERS.has(facts.get(value)?.dataType ?? 0);
