import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import {
  type GraphProto,
  GraphProtoSchema,
  type ModelProto,
  ModelProtoSchema,
  type NodeProto,
  type TensorProto,
  ValueInfoProtoSchema,
} from 'onnx-buf';
import { EngineError } from '../errors.js';
import { intAttribute, intsAttribute } from '../onnx/attributes.js';
import { makeInitializer, makeInt64Initializer, makeNode, makeValueInfo } from '../onnx/build.js';
import { FLOAT16, FLOAT32, INT32, INT64 } from '../onnx/data-types.js';
import { type GraphIndex, indexGraph, inputsOf, qualifiedOp } from '../onnx/graph-index.js';
import { type PrefillSize, readModelInputs } from '../onnx/model-inputs.js';
import type { TensorHandle } from '../onnx/onnx-model.js';
import { convertGraphToSingle, convertNodesToSingle } from '../onnx/retype-floats.js';
import { elementCount } from '../onnx/value.js';
import type { ValueFact, ValueFacts } from '../onnx/value-facts.js';
import { operatorOf } from '../operators/table.js';
import { type DeclaredValue, dataTypeOf, type Engine, type Tensor, type Tensors } from './engine.js';
import { prefillFeeds } from './prefill-feeds.js';
import { releaseTensors } from './tensor-memory.js';

/** Float weights with more elements are replaced by zeros, which cost no memory. */
const REAL_ELEMENT_LIMIT = 64;
/** Integer tensors up to this size are shapes, axes or indices: their contents are part of their facts. */
const INTS_LIMIT = 256;

export interface ProbeSize extends PrefillSize {
  /** Elements that a computed mask selects; no multiple of the other sizes, so that it is not confused with them. */
  readonly selectedCount: number;
}

export interface ProbeRequest {
  /** One run per size. */
  readonly sizes: readonly ProbeSize[];
  readonly engine: Engine;
  /** Only its opsets, functions and declared inputs are read. */
  readonly proto: ModelProto;
  /** The graph to probe: the model's own or a lowered one. */
  readonly graph: GraphProto;
  readonly weights: ReadonlyMap<string, TensorHandle>;
}

/**
 * Measures the dims of every value, and the contents of small integer ones, by running the graph without past, once per size.
 * Large weights are fed as zeros in one shared buffer, so that they are not read and peak memory does not grow with the model.
 */
export async function probeValues(request: ProbeRequest): Promise<ValueFacts[]> {
  const { engine, sizes } = request;
  const placeholders = await placeholderWeights(request);
  const graph = { ...request.graph, node: replaceNonZero(request.graph.node, placeholders.names) };
  const index = indexGraph(graph);
  const inputs = readModelInputs(request.proto.graph ?? graph);
  const feeds = sizes.map((size) => ({
    ...prefillFeeds(inputs, size),
    ...placeholders.feeds,
    [SELECTED]: selectedCountOf(size),
  }));
  const known = new Map(placeholders.facts);
  const fetches = graph.node.flatMap((node) =>
    addWeightSideFacts(node, index, known) ? [] : node.output.filter((value) => value !== ''),
  );
  const proto = create(ModelProtoSchema, {
    irVersion: request.proto.irVersion,
    opsetImport: request.proto.opsetImport,
    functions: request.proto.functions,
    graph: create(GraphProtoSchema, {
      name: 'probe',
      node: [...placeholders.nodes, ...graph.node],
      initializer: [...placeholders.initializers],
      sparseInitializer: graph.sparseInitializer,
      input: [
        ...graph.input.filter(({ name }) => !index.initializers.has(name)),
        ...Object.entries(placeholders.feeds).map(([name, tensor]) =>
          makeValueInfo(name, dataTypeOf(tensor.type), tensor.dims),
        ),
        makeValueInfo(SELECTED, INT64, [1]),
      ],
      output: fetches.map((name) => create(ValueInfoProtoSchema, { name })),
    }),
  });
  const results = await runProbes(engine, toBinary(ModelProtoSchema, proto), feeds);
  return results.map((found) => new Map([...found, ...known]));
}

/** Runs a probe graph on each of the feeds, and returns the facts of inputs and outputs of each run. */
async function runProbes(engine: Engine, bytes: Uint8Array, feeds: readonly Tensors[]): Promise<ValueFacts[]> {
  // ONNX Runtime adds casts around operators without a float16 kernel, and fails on redundant casts unless `basic` removes them.
  const session = await engine
    .load(bytes, { optimization: 'none', keepsMemory: false })
    .catch(() => engine.load(bytes, { optimization: 'basic', keepsMemory: false }));
  try {
    return (
      (await runInSingle(engine, bytes, { feeds, declared: session.outputs })) ??
      (await factsOfRuns(feeds, (runFeeds) => session.run(runFeeds)))
    );
  } finally {
    await session.release();
  }
}

interface DeclaredRuns {
  readonly feeds: readonly Tensors[];
  /** Outputs of the original graph. */
  readonly declared: readonly DeclaredValue[];
}

/**
 * Runs a float16 graph in float32, and returns its facts in float16. ONNX Runtime casts all fed weights before the first
 * product, so that the original graph would need the entire model in float32.
 * @returns undefined if no large weight is float16, or if the graph does not run in float32.
 */
async function runInSingle(
  engine: Engine,
  bytes: Uint8Array,
  { feeds, declared }: DeclaredRuns,
): Promise<ValueFacts[] | undefined> {
  const isHalf = ({ type }: { readonly type: string }) => type === 'float16';
  const fed = feeds.flatMap((run) => Object.values(run));
  if (engine.copiesInputs || !fed.some((feed) => isHalf(feed) && feed.data.length > REAL_ELEMENT_LIMIT))
    return undefined;
  const proto = fromBinary(ModelProtoSchema, bytes);
  convertGraphToSingle(proto.graph!);
  for (const { node } of proto.functions) convertNodesToSingle(node);
  const zeros = new ArrayBuffer(4 * Math.max(...fed.map(({ data }) => data.length)));
  const inSingle = (feed: Tensor): Tensor =>
    isHalf(feed)
      ? { type: 'float32', dims: feed.dims, data: new Float32Array(zeros, 0, elementCount(feed.dims)) }
      : feed;
  try {
    const session = await engine.load(toBinary(ModelProtoSchema, proto), { optimization: 'none', keepsMemory: false });
    try {
      const found = await factsOfRuns(feeds, (run) =>
        session.run(Object.fromEntries(Object.entries(run).map(([name, feed]) => [name, inSingle(feed)]))),
      );
      const halves = declared.filter(isHalf);
      return found.map(
        (facts) =>
          new Map([...facts, ...halves.map(({ name }) => [name, { ...facts.get(name)!, dataType: FLOAT16 }] as const)]),
      );
    } finally {
      await session.release();
    }
  } catch (error) {
    if (error instanceof EngineError) return undefined;
    throw error;
  }
}

async function factsOfRuns(
  feeds: readonly Tensors[],
  run: (feeds: Tensors) => Promise<Tensors>,
): Promise<ValueFacts[]> {
  const found: ValueFacts[] = [];
  for (const runFeeds of feeds) {
    const results = await run(runFeeds);
    found.push(
      new Map(
        [...Object.entries(runFeeds), ...Object.entries(results)].map(([name, tensor]) => [name, factOf(tensor)]),
      ),
    );
    releaseTensors(results);
  }
  return found;
}

/** Graph input with the number of elements that a NonZero selects. */
const SELECTED = 'fang_prune/places';

const selectedCountOf = ({ selectedCount }: ProbeSize): Tensor => ({
  type: 'int64',
  dims: [1],
  data: BigInt64Array.of(BigInt(selectedCount)),
});

/**
 * Replaces each NonZero of computed values by indices of a given count. Its own count means nothing where weights are zeros; a
 * distinct one shows which sizes depend on it.
 */
function replaceNonZero(nodes: readonly NodeProto[], weights: ReadonlySet<string>): NodeProto[] {
  const computed = new Set(weights);
  return nodes.flatMap((node) => {
    if (!inputsOf(node).some((value) => computed.has(value))) return [node];
    for (const value of node.output) computed.add(value);
    if (qualifiedOp(node) !== 'NonZero') return [node];
    const [x = ''] = node.input;
    const [places = ''] = node.output;
    const emit = (op: string, inputs: readonly string[], attributes = {}): NodeProto =>
      makeNode({ op, inputs, outputs: [`${places}/${op}_${inputs.length}`], attributes });
    const shape = emit('Shape', [x]);
    const rank = makeNode({ op: 'Shape', inputs: shape.output, outputs: [`${places}/rank`] });
    const dims = emit('Concat', [...rank.output, SELECTED], { axis: 0 });
    const filled = makeNode({
      op: 'ConstantOfShape',
      name: node.name,
      inputs: dims.output,
      outputs: [`${places}/zeros`],
    });
    return [
      shape,
      rank,
      dims,
      filled,
      makeNode({ op: 'Cast', inputs: filled.output, outputs: [places], attributes: { to: 7 } }),
    ];
  });
}

interface PlaceholderWeights {
  /** Weights that are replaced by zeros. */
  readonly names: ReadonlySet<string>;
  readonly feeds: Readonly<Record<string, Tensor>>;
  readonly nodes: readonly NodeProto[];
  readonly initializers: readonly TensorProto[];
  readonly facts: ReadonlyMap<string, ValueFact>;
}

/**
 * Large float weights become feeds of zeros in one shared buffer, or zeros that the graph computes if the engine copies feeds;
 * all others remain initializers.
 */
async function placeholderWeights({ engine, graph, weights }: ProbeRequest): Promise<PlaceholderWeights> {
  const zeros = new ArrayBuffer(
    Math.max(8, ...[...weights.values()].filter(isLargeFloat).map(({ byteLength }) => byteLength)),
  );
  const feeds: Record<string, Tensor> = {};
  const names = new Set<string>();
  const nodes: NodeProto[] = [];
  const initializers: TensorProto[] = [];
  const facts = new Map<string, ValueFact>();
  for (const initializer of graph.initializer) {
    const handle = weights.get(initializer.name);
    if (handle === undefined) {
      initializers.push(initializer);
      continue;
    }
    const { dataType, dims } = handle;
    if (isLargeFloat(handle)) {
      names.add(initializer.name);
      if (engine.copiesInputs) {
        const shape = makeInt64Initializer(`${initializer.name}/dims`, dims);
        initializers.push(shape);
        nodes.push(...makeZeros(initializer.name, shape.name, dataType));
      } else feeds[initializer.name] = zeroTensor(handle, zeros);
      facts.set(initializer.name, { dims, dataType });
    } else {
      const bytes = await handle.read();
      initializers.push(makeInitializer(initializer.name, dataType, dims, bytes));
      facts.set(initializer.name, { dims, dataType, ...bytesAsInts(dataType, bytes) });
    }
  }
  return { names, feeds, nodes, initializers, facts };
}

const isLargeFloat = ({ dataType, dims }: TensorHandle): boolean =>
  (dataType === FLOAT32 || dataType === FLOAT16) && elementCount(dims) > REAL_ELEMENT_LIMIT;

function makeZeros(name: string, shape: string, dataType: number): NodeProto[] {
  const fill = (output: string) => makeNode({ op: 'ConstantOfShape', inputs: [shape], outputs: [output] });
  if (dataType === FLOAT32) return [fill(name)];
  const zeros = `${name}/zeros`;
  return [fill(zeros), makeNode({ op: 'Cast', inputs: [zeros], outputs: [name], attributes: { to: dataType } })];
}

function zeroTensor({ dataType, dims }: TensorHandle, zeros: ArrayBuffer): Tensor {
  const length = elementCount(dims);
  return dataType === FLOAT32
    ? { type: 'float32', dims, data: new Float32Array(zeros, 0, length) }
    : { type: 'float16', dims, data: new Uint16Array(zeros, 0, length) };
}

/** Facts about a weight, with its contents if they are few integers. */
export async function factOfWeight(handle: TensorHandle): Promise<ValueFact> {
  const { dataType, dims } = handle;
  const isInts = (dataType === INT32 || dataType === INT64) && elementCount(dims) <= INTS_LIMIT;
  return { dims, dataType, ...(isInts && bytesAsInts(dataType, await handle.read())) };
}

/** Facts about a tensor. */
export function factOf(tensor: Tensor): ValueFact {
  return { dims: tensor.dims, dataType: dataTypeOf(tensor.type), ...smallInts(tensor) };
}

/**
 * Adds the facts of a large weight's transpose or cast without running it: copies of all weights would be as large as the
 * model. Returns whether the node computes one.
 */
function addWeightSideFacts(
  node: GraphProto['node'][number],
  index: GraphIndex,
  facts: Map<string, ValueFact>,
): boolean {
  const [output = ''] = node.output;
  const source = facts.get(node.input[0] ?? '');
  if (!index.constants.has(output) || source === undefined || elementCount(source.dims) <= REAL_ELEMENT_LIMIT)
    return false;
  const order = intsAttribute(node, 'perm') ?? source.dims.map((_, axis) => source.dims.length - 1 - axis);
  const form = operatorOf(node)?.weight ?? 'changed';
  if (form === 'changed') return false;
  const dims = form === 'transposed' ? order.map((axis) => source.dims[axis] ?? 0) : source.dims;
  const scales = form === 'unpacked' ? facts.get(node.input[1] ?? '') : undefined;
  const given = intAttribute(node, form === 'unpacked' ? 'output_dtype' : 'to', 0);
  facts.set(output, { dims, dataType: given || (scales ?? source).dataType });
  return true;
}

function smallInts(tensor: Tensor): { ints?: readonly number[] } {
  const wanted = tensor.type === 'int64' || tensor.type === 'int32';
  return wanted && tensor.data.length <= INTS_LIMIT ? { ints: Array.from(tensor.data, Number) } : {};
}

function bytesAsInts(dataType: number, bytes: Uint8Array<ArrayBuffer>): { ints?: readonly number[] } {
  const copy = bytes.slice().buffer;
  if (dataType === INT64) return { ints: Array.from(new BigInt64Array(copy), Number) };
  return dataType === INT32 ? { ints: Array.from(new Int32Array(copy)) } : {};
}
