import { create } from '@bufbuild/protobuf';
import { type GraphProto, GraphProtoSchema, type NodeProto, type TensorProto } from 'onnx-buf';
import { findAttribute, intsAttribute } from './attributes.js';
import { makeInt64Initializer, makeNode } from './build.js';
import { findDataType } from './data-types.js';
import { extractStage } from './extract-stage.js';
import { type GraphIndex, indexGraph, producerNode, qualifiedOp } from './graph-index.js';
import { typedElementBytes } from './typed-elements.js';

/**
 * Removes `repeat_kv` (Unsqueeze, Expand, Reshape): products then read shared keys and values without copies for every
 * query head, which take longer than the products at one token per run. Results differ only by rounding.
 */
export function shareHeads(graph: GraphProto): GraphProto {
  const index = indexGraph(graph);
  const nodes = graph.node.flatMap(
    (node) => shareProduct(node, graph, index) ?? shareSize(node, graph, index) ?? [node],
  );
  const constants = Object.entries(PLACES).map(([name, places]) => makeInt64Initializer(placesName(name), places));
  const shared = create(GraphProtoSchema, { ...graph, node: nodes, initializer: [...graph.initializer, ...constants] });
  // The nodes of `repeat_kv` are no longer read.
  const { nodes: read } = extractStage(indexGraph(shared), {
    outputs: shared.output.map(({ name }) => name),
    isAvailable: (value) => index.inputs.has(value),
  });
  return { ...shared, node: [...read] };
}

/** Constants for shapes: indices of dims, and Reshape's 0 (keep) and -1 (infer). */
const PLACES = { heads: [1], kept: [0, 1, 2], last: [2, 3], same: [0], rest: [-1] } as const;

const placesName = (name: string): string => `shared/${name}`;

/** A product of queries `[B, H, S, D]` with repeated keys or values, as one of `[B, K, H/K, S, D]`. */
function shareProduct(node: NodeProto, graph: GraphProto, index: GraphIndex): NodeProto[] | undefined {
  if (qualifiedOp(node) !== 'MatMul') return undefined;
  const [queries = '', repeated = ''] = node.input;
  const found = findRepeated(repeated, graph, index);
  if (found === undefined) return undefined;
  const [product = ''] = node.output;
  const name = (part: string) => `${product}/shared/${part}`;
  const { source, between, unsqueeze } = found;
  const steps = between.map((step, at) =>
    repeat(step, at === 0 ? name('narrow') : name(`step-${at - 1}`), name(`step-${at}`)),
  );
  return [
    makeNode({ op: 'Shape', inputs: [queries], outputs: [name('queries')] }),
    makeNode({ op: 'Shape', inputs: [source], outputs: [name('source')] }),
    take(name('queries'), 'last', name('last')),
    take(name('queries'), 'kept', name('kept')),
    take(name('source'), 'heads', name('heads')),
    concat([placesName('same'), name('heads'), placesName('rest'), name('last')], name('apart')),
    concat([name('kept'), placesName('rest')], name('together')),
    makeNode({ op: 'Reshape', inputs: [queries, name('apart')], outputs: [name('grouped')] }),
    makeNode({
      op: 'Unsqueeze',
      inputs: [source, ...unsqueeze.input.slice(1)],
      outputs: [name('narrow')],
      attributes: unsqueeze.input.length > 1 ? {} : { axes: [2] },
    }),
    ...steps,
    makeNode({
      op: 'MatMul',
      name: node.name,
      inputs: [name('grouped'), steps.at(-1)?.output[0] ?? name('narrow')],
      outputs: [name('product')],
    }),
    makeNode({ op: 'Reshape', inputs: [name('product'), name('together')], outputs: [product] }),
  ];
}

/** A size of repeated heads that shared ones also have, such as the number of tokens. */
function shareSize(node: NodeProto, graph: GraphProto, index: GraphIndex): NodeProto[] | undefined {
  const shape = qualifiedOp(node) === 'Gather' ? producerNode(index, node.input[0]!) : undefined;
  if (shape?.opType !== 'Shape' || shape.attribute.length > 0) return undefined;
  if (!SAME_SIZES.has(`${integerOf(node.input[1]!, graph, index)}`)) return undefined;
  const found = findRepeated(shape.input[0]!, graph, index);
  if (found === undefined || found.between.length > 0) return undefined;
  const sizes = `${node.output[0]}/shared/sizes`;
  return [
    makeNode({ op: 'Shape', inputs: [found.source], outputs: [sizes] }),
    { ...node, input: [sizes, ...node.input.slice(1)] },
  ];
}

/** Axes that are not the heads'. */
const SAME_SIZES: ReadonlySet<string> = new Set(['0', '2', '3', '-4', '-2', '-1']);

/** A node between repeated heads and their product, applied to shared heads. */
function repeat(step: NodeProto, input: string, output: string): NodeProto {
  const attributes = step.opType === 'Transpose' ? { perm: [0, 1, 2, 4, 3] } : {};
  return makeNode({ op: step.opType, inputs: [input, ...step.input.slice(1)], outputs: [output], attributes });
}

const concat = (inputs: readonly string[], output: string): NodeProto =>
  makeNode({ op: 'Concat', inputs, outputs: [output], attributes: { axis: 0 } });

const take = (shape: string, places: keyof typeof PLACES, output: string): NodeProto =>
  makeNode({ op: 'Gather', inputs: [shape, placesName(places)], outputs: [output] });

interface RepeatedHeads {
  /** Keys or values `[B, K, L, D]`. */
  readonly source: string;
  /** The Unsqueeze that gave them an axis for copies. */
  readonly unsqueeze: NodeProto;
  /** Nodes after the repetition, in order. */
  readonly between: readonly NodeProto[];
}

/** The value that `repeat_kv` repeats, through a transpose of the last two axes and factors. */
function findRepeated(value: string, graph: GraphProto, index: GraphIndex): RepeatedHeads | undefined {
  const between: NodeProto[] = [];
  let producer = producerNode(index, value);
  for (
    ;
    producer !== undefined && isBetween(producer, graph, index);
    producer = producerNode(index, producer.input[0]!)
  )
    between.unshift(producer);
  const expand = producer?.opType === 'Reshape' ? producerNode(index, producer.input[0]!) : undefined;
  const unsqueeze = expand?.opType === 'Expand' ? producerNode(index, expand.input[0]!) : undefined;
  return unsqueeze?.opType === 'Unsqueeze' && isHeadAxis(unsqueeze, graph, index)
    ? { source: unsqueeze.input[0]!, unsqueeze, between }
    : undefined;
}

/** Whether a node does the same to all heads: it swaps the last two axes, or multiplies by a scalar. */
function isBetween(node: NodeProto, graph: GraphProto, index: GraphIndex): boolean {
  if (qualifiedOp(node) === 'Transpose') return `${intsAttribute(node, 'perm')}` === '0,1,3,2';
  if (!['Mul', 'Div'].includes(qualifiedOp(node))) return false;
  return constantOf(node.input[1]!, graph, index)?.dims.every((dim) => dim === 1n) ?? false;
}

/** The axis after the heads of `[B, K, L, D]`, from either end. */
const HEAD_AXES: ReadonlySet<string> = new Set(['2', '-3']);

/** Whether an Unsqueeze inserts its axis after the heads. */
function isHeadAxis(node: NodeProto, graph: GraphProto, index: GraphIndex): boolean {
  const stated = intsAttribute(node, 'axes');
  if (stated !== undefined) return HEAD_AXES.has(`${stated}`);
  return HEAD_AXES.has(`${integerOf(node.input[1]!, graph, index)}`);
}

/** A constant that is one integer. */
function integerOf(value: string, graph: GraphProto, index: GraphIndex): bigint | undefined {
  const tensor = constantOf(value, graph, index);
  const type = findDataType(tensor?.dataType ?? 0);
  if (tensor === undefined || type?.name !== 'int64') return undefined;
  const bytes = tensor.rawData.length > 0 ? tensor.rawData : typedElementBytes(tensor, type);
  return bytes.length === 8 ? new DataView(bytes.buffer, bytes.byteOffset).getBigInt64(0, true) : undefined;
}

/** A small constant: an initializer or a Constant node. */
function constantOf(value: string, { initializer }: GraphProto, index: GraphIndex): TensorProto | undefined {
  const producer = producerNode(index, value);
  return producer?.opType === 'Constant'
    ? findAttribute(producer, 'value')?.t
    : initializer.find(({ name }) => name === value);
}
