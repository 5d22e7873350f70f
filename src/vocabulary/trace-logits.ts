import type { NodeProto } from 'onnx-buf';
import { UnsupportedModelError } from '../errors.js';
import { intAttribute, intsAttribute } from '../onnx/attributes.js';
import { qualifiedOp } from '../onnx/graph-index.js';
import { keyOf, type Scope, type ScopedValue } from './graph-scopes.js';
import { traceTable } from './trace-table.js';
import { checkReaders, constantDims, follow, readConstant, refuseNode, type Tracing } from './vocabulary-trace.js';

/**
 * Follows logits back to the LM head, and records every weight with an entry per token on the way.
 * @returns rows of the LM head
 * @throws UnsupportedModelError naming the node that cannot be followed
 */
export async function traceLogits(tracing: Tracing): Promise<number> {
  const { scopes, model, sized } = tracing;
  const { output } = model.proto.graph!;
  const logits = output.find(({ name }) => name === 'logits') ?? output[0];
  if (logits === undefined) throw new UnsupportedModelError('the model has no outputs; expected one named "logits"');
  const value = scopes.resolve(scopes.main, logits.name);
  const rows = await headRows(tracing, value);
  if (rows === undefined)
    throw new UnsupportedModelError(
      `found no LM head before the output "${logits.name}": no product with a matrix of one column per token, so that the vocabulary cannot be trimmed in this export`,
    );
  const carriers = new Map<string, ScopedValue>();
  await traceCarrier({ tracing, rows, carriers }, value);
  for (const carrier of carriers.values()) sized.push({ ...carrier, axis: -1, rows });
  checkReaders(tracing, carriers.values(), 'logits');
  return rows;
}

interface HeadSite {
  readonly tracing: Tracing;
  readonly rows: number;
  /** Values with one logit per token. */
  readonly carriers: Map<string, ScopedValue>;
}

/** Rows of the LM head that computes a value; undefined if there is none. */
async function headRows(tracing: Tracing, value: ScopedValue): Promise<number | undefined> {
  const { scopes } = tracing;
  const node = scopes.producerOf(value);
  if (node === undefined) return undefined;
  const op = qualifiedOp(node);
  const head = HEADS[op];
  if (head !== undefined)
    return head.rows(node, (input) => constantDims(tracing, scopes.resolve(value.scope, node.input[input] ?? '')));
  if (op === 'If') return headRows(tracing, branchOutputs(tracing, value, node)[0]!);
  for (const input of LOGITS_RULES[op]?.inputs(node) ?? []) {
    const rows = await headRows(tracing, scopes.resolve(value.scope, node.input[input] ?? ''));
    if (rows !== undefined) return rows;
  }
  return undefined;
}

/** Records the weights that a value with one logit per token depends on. */
async function traceCarrier(site: HeadSite, value: ScopedValue): Promise<void> {
  const { tracing, rows, carriers } = site;
  const { scopes } = tracing;
  if (carriers.has(keyOf(value))) return;
  carriers.set(keyOf(value), value);
  const node = scopes.producerOf(value);
  if (node === undefined) throw new UnsupportedModelError(`no node computes the logits "${value.name}"`);
  const op = qualifiedOp(node);
  const { scope } = value;
  if (op === 'If') {
    for (const inner of branchOutputs(tracing, value, node)) await traceCarrier(site, inner);
    return;
  }
  const head = HEADS[op];
  if (head !== undefined) return traceHead(site, { head, node, scope });
  const carrier = LOGITS_RULES[op];
  if (carrier === undefined) throw refuseNode(node, 'changes logits in an unknown way');
  const obstacle = carrier.obstacle?.(node);
  if (obstacle !== undefined) throw refuseNode(node, obstacle);
  if (op === 'Reshape') await recordShape(tracing, { node, scope, rows });
  if (op === 'Slice') await checkSlice(tracing, node, scope);
  let found = 0;
  for (const input of carrier.inputs(node)) {
    const inner = scopes.resolve(scope, node.input[input] ?? '');
    const dims = await constantDims(tracing, inner);
    if (dims !== undefined) {
      if (dims.at(-1) !== rows || rows === 1) continue;
      await traceTable(tracing, { value: follow(tracing, scope, node, input), axis: dims.length - 1, rows }, node);
    } else if ((await headRows(tracing, inner)) !== undefined) {
      await traceCarrier(site, follow(tracing, scope, node, input));
    } else if (!(await carriesScales(site, { node, scope, input }))) continue;
    found += 1;
  }
  if (found === 0) throw refuseNode(node, 'computes logits from unknown inputs');
}

/** Whether an input is the scale of activations times the scales of the weight's columns; records the latter. */
async function carriesScales(
  { tracing, rows }: HeadSite,
  { node, scope, input }: { readonly node: NodeProto; readonly scope: Scope; readonly input: number },
): Promise<boolean> {
  const { scopes } = tracing;
  const value = scopes.resolve(scope, node.input[input] ?? '');
  const scales = scopes.producerOf(value);
  if (scales?.opType !== 'Mul') return false;
  for (const [at, name] of scales.input.entries()) {
    const dims = await constantDims(tracing, scopes.resolve(value.scope, name));
    if (dims === undefined || dims.at(-1) !== rows || rows === 1) continue;
    follow(tracing, scope, node, input);
    checkReaders(tracing, [value], 'scales of logits');
    await traceTable(tracing, { value: follow(tracing, value.scope, scales, at), axis: dims.length - 1, rows }, scales);
    tracing.sized.push({ ...value, axis: -1, rows });
    return true;
  }
  return false;
}

/** Records a constant shape of a Reshape that contains the number of logits. */
async function recordShape(
  tracing: Tracing,
  { node, scope, rows }: { readonly node: NodeProto; readonly scope: Scope; readonly rows: number },
): Promise<void> {
  const { scopes, literals } = tracing;
  const value = scopes.resolve(scope, node.input[1] ?? '');
  const producer = scopes.producerOf(value);
  const joined = producer?.opType === 'Concat' ? producer : undefined;
  const last = joined === undefined ? value : scopes.resolve(value.scope, joined.input.at(-1) ?? '');
  const shape = await readConstant(tracing, last);
  const end = shape?.values.at(-1);
  if (shape === undefined || (end !== rows && end !== -1))
    throw refuseNode(node, 'reshapes logits to an unknown shape');
  if (end !== rows) return;
  const [reader, input] = joined === undefined ? [node, 1] : [joined, joined.input.length - 1];
  literals.push({ node: reader, input, ...shape, place: shape.values.length - 1 });
}

/** @throws UnsupportedModelError for a slice of the tokens */
async function checkSlice(tracing: Tracing, node: NodeProto, scope: Scope): Promise<void> {
  const name = node.input[3] ?? '';
  const axes = name === '' ? undefined : await readConstant(tracing, tracing.scopes.resolve(scope, name));
  if (axes === undefined || axes.values.some(isLastAxis)) throw refuseNode(node, OTHER_AXES);
}

function branchOutputs({ scopes }: Tracing, value: ScopedValue, node: NodeProto): readonly ScopedValue[] {
  const at = node.output.indexOf(value.name);
  return scopes.branchesOf(node).map((scope) => scopes.resolve(scope, scope.graph.output[at]?.name ?? ''));
}

type DimsOf = (input: number) => Promise<readonly number[] | undefined>;

/** A product with a matrix of one column or row per token. */
interface Head {
  rows(node: NodeProto, dimsOf: DimsOf): Promise<number | undefined>;
  /** Weights with an entry per token: input, and axis of the entries; negative axes count from the end. */
  readonly weights: readonly (readonly [input: number, axis: (node: NodeProto) => number])[];
  /** Attribute with the number of rows. */
  readonly attribute?: string;
  /** Reason why a node cannot be cut, as the predicate of a message; undefined if it can be. */
  obstacle?(node: NodeProto): string | undefined;
}

const last = () => -1;
const first = () => 0;

const MATRIX: Head = { rows: async (_, dimsOf) => (await dimsOf(1))?.at(-1), weights: [[1, last]] };

const transposed = (attribute: string) => (node: NodeProto) => (intAttribute(node, attribute, 0) !== 0 ? -2 : -1);

const byAttribute = async (node: NodeProto): Promise<number | undefined> => intAttribute(node, 'N', 0) || undefined;

const HEADS: Readonly<Record<string, Head>> = {
  MatMul: MATRIX,
  Gemm: {
    rows: async (node, dimsOf) => (await dimsOf(1))?.at(transposed('transB')(node)),
    weights: [
      [1, transposed('transB')],
      [2, last],
    ],
  },
  MatMulInteger: {
    ...MATRIX,
    weights: [
      [1, last],
      [3, last],
    ],
  },
  'com.microsoft.FusedMatMul': {
    rows: async (node, dimsOf) => (await dimsOf(1))?.at(transposed('transB')(node)),
    weights: [[1, transposed('transB')]],
  },
  'com.microsoft.DynamicQuantizeMatMul': { ...MATRIX, weights: [1, 2, 3, 4].map((input) => [input, last] as const) },
  'com.microsoft.MatMulIntegerToFloat': { ...MATRIX, weights: [1, 3, 5, 6].map((input) => [input, last] as const) },
  'com.microsoft.MatMulNBits': {
    rows: byAttribute,
    weights: [1, 2, 3, 5].map((input) => [input, first] as const),
    attribute: 'N',
    obstacle: (node) =>
      intAttribute(node, 'weight_prepacked', 0) === 0 ? undefined : 'has weights prepacked for one processor',
  },
  'com.microsoft.MatMulBnb4': {
    rows: byAttribute,
    weights: [
      [1, first],
      [2, first],
    ],
    attribute: 'N',
    obstacle: (node) =>
      intAttribute(node, 'K', 0) % intAttribute(node, 'block_size', 32) === 0 && intAttribute(node, 'transB', 1) === 1
        ? undefined
        : 'has blocks that continue in the next row',
  },
};

async function traceHead(
  { tracing, rows }: HeadSite,
  { head, node, scope }: { readonly head: Head; readonly node: NodeProto; readonly scope: Scope },
): Promise<void> {
  const obstacle = head.obstacle?.(node);
  if (obstacle !== undefined) throw refuseNode(node, obstacle);
  for (const [input, axisOf] of head.weights) {
    if ((node.input[input] ?? '') === '') continue;
    const dims = await constantDims(tracing, tracing.scopes.resolve(scope, node.input[input]!));
    if (dims === undefined) throw refuseNode(node, `has an input ${input} that is not a weight`);
    const axis = axisOf(node);
    const fromFront = axis < 0 ? axis + dims.length : axis;
    // A single value for all tokens.
    if (axis < 0 && dims[fromFront] !== rows) continue;
    await traceTable(tracing, { value: follow(tracing, scope, node, input), axis: fromFront, rows }, node);
  }
  if (head.attribute !== undefined) tracing.counted.push({ node, attribute: head.attribute, rows });
}

/** An operator that preserves one logit per token along the last axis. */
interface LogitsRule {
  /** Inputs that may be logits. */
  inputs(node: NodeProto): readonly number[];
  obstacle?(node: NodeProto): string | undefined;
}

const FIRST: LogitsRule = { inputs: () => [0] };
const ALL: LogitsRule = { inputs: ({ input }) => input.map((_, at) => at) };

const OTHER_AXES = 'has axes that are not supported for logits';

/** Logits have a batch axis, one of positions, and one of tokens. */
const isLastAxis = (axis: number): boolean => axis === -1 || axis >= 2;

const LOGITS_RULES: Readonly<Record<string, LogitsRule>> = {
  Identity: FIRST,
  Cast: FIRST,
  Tanh: FIRST,
  Neg: FIRST,
  Softmax: {
    inputs: () => [0],
    obstacle: (node) => (isLastAxis(intAttribute(node, 'axis', -1)) ? undefined : OTHER_AXES),
  },
  LogSoftmax: {
    inputs: () => [0],
    obstacle: (node) => (isLastAxis(intAttribute(node, 'axis', -1)) ? undefined : OTHER_AXES),
  },
  Clip: FIRST,
  Reshape: FIRST,
  Add: ALL,
  Sub: ALL,
  Mul: ALL,
  Div: ALL,
  Where: ALL,
  Gather: {
    inputs: () => [0],
    obstacle: (node) => (isLastAxis(intAttribute(node, 'axis', 0)) ? OTHER_AXES : undefined),
  },
  Unsqueeze: FIRST,
  Squeeze: FIRST,
  Slice: FIRST,
  Transpose: {
    inputs: () => [0],
    obstacle(node) {
      const perm = intsAttribute(node, 'perm') ?? [];
      return perm.at(-1) === perm.length - 1 ? undefined : OTHER_AXES;
    },
  },
};
