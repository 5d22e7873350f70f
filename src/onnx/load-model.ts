import type {
  AttributeProto,
  FunctionProto,
  GraphProto,
  ModelProto,
  NodeProto,
  SparseTensorProto,
  TensorProto,
} from 'onnx-buf';
import { ModelFormatError } from '../errors.js';
import type { ByteSource, SourceFolder } from './byte-source.js';
import { createExternalDataReader } from './external-data.js';
import { inputsOf, subgraphsOf } from './graph-index.js';
import type { ModelStorage, OnnxModel, TensorHandle } from './onnx-model.js';
import { readStructure, type StoredTensor } from './read-structure.js';
import { expectedByteLength } from './tensor-handle.js';
import { findPayload, isExternal, isString, type PayloadSources, shapeOf } from './tensor-payload.js';
import { dropPayload } from './typed-elements.js';

/**
 * Loads an ONNX model without reading its large weights: these become handles.
 *
 * All forms of storage are supported (raw data, typed lists, external files). Constant nodes of the main graph with 1 KiB
 * or more, or with external data, become initializers. Nodes are sorted topologically. Strings remain in `proto`. Unknown
 * fields are retained.
 *
 * @param source the `.onnx` file
 * @param folder the folder of the file, with its external data
 * @throws ModelFormatError when the file, or one next to it, is missing, truncated or inconsistent.
 */
export async function loadModel(source: ByteSource, folder: SourceFolder): Promise<OnnxModel> {
  const { proto, initializers } = await readStructure(source);
  refuseNames(proto, source.name);
  sortNodes(proto.graph, source.name);
  const sources = { model: source, external: createExternalDataReader(folder) };
  const hoisted = hoistConstants(proto.graph, source.name);
  if (hoisted.length > 0 && proto.irVersion < HOISTING_IR_VERSION) proto.irVersion = HOISTING_IR_VERSION;
  const weights = new Map<string, TensorHandle>();
  const origins = new Map<string, string | undefined>();
  for (const stored of [...initializers, ...hoisted.map((tensor): StoredTensor => ({ tensor }))]) {
    const { tensor } = stored;
    checkName(tensor, source.name, origins);
    const payload = isString(tensor) && !isExternal(tensor) ? undefined : await findPayload(stored, sources);
    origins.set(tensor.name, payload?.externalFile);
    if (payload === undefined) continue;
    weights.set(tensor.name, payload.handle);
    dropPayload(tensor);
  }
  const inlinedFiles = await inlineTensors(proto, sources);
  proto.graph.initializer = [...initializers.map(({ tensor }) => tensor), ...hoisted];
  return { proto, weights, storage: describeStorage(weights, origins, inlinedFiles) };
}

function checkName({ name }: TensorProto, modelName: string, seen: ReadonlyMap<string, unknown>): void {
  if (name === '') throw new ModelFormatError(`${modelName}: an initializer has no name.`);
  if (name === '__proto__') throw new ModelFormatError(`${modelName}: a tensor is called "${name}".`);
  if (seen.has(name)) throw new ModelFormatError(`${modelName}: two tensors are called "${name}".`);
}

function describeStorage(
  weights: ReadonlyMap<string, TensorHandle>,
  origins: ReadonlyMap<string, string | undefined>,
  inlinedFiles: readonly string[],
): ModelStorage {
  const outside = [...weights].filter(([name]) => origins.get(name) !== undefined);
  if (outside.length === 0 && inlinedFiles.length === 0) return { kind: 'inline' };
  const sizes = outside.map(([, { byteLength }]) => byteLength);
  const files = outside.map(([name]) => origins.get(name)!);
  return {
    kind: 'external',
    files: [...new Set([...files, ...inlinedFiles])],
    thresholdBytes:
      outside.length === weights.size ? 0 : sizes.reduce((least, size) => Math.min(least, size), Infinity),
  };
}

/**
 * Rejects operators with names of JavaScript's object prototype (`valueOf`, `constructor`), since tables are keyed by operator;
 * values called `__proto__`, since tables are keyed by tensor; and values that two nodes produce. No exporter writes these.
 * @throws ModelFormatError naming the operator or value.
 */
function refuseNames({ graph, functions }: ModelProto, modelName: string): void {
  for (const nodes of listsOfNodes(graph, functions)) {
    const produced = new Set<string>();
    for (const { opType, domain, input, output } of nodes) {
      if ([opType, `${domain}.${opType}`].some((name) => name in Object.prototype))
        throw refuse(modelName, `has an operator called "${opType}"`);
      for (const value of output) {
        if (value !== '' && produced.has(value)) throw refuse(modelName, `computes the value "${value}" twice`);
        produced.add(value);
      }
      if ([...input, ...output].includes('__proto__')) throw refuse(modelName, 'has a value called "__proto__"');
    }
  }
}

const refuse = (modelName: string, what: string): ModelFormatError =>
  new ModelFormatError(`${modelName} ${what}, which no valid model does. Export the model again.`);

/** Node lists of the graph, its subgraphs and functions, each with its own names. */
function* listsOfNodes(graph: GraphProto | undefined, functions: readonly FunctionProto[]) {
  const open: (readonly NodeProto[])[] = [graph?.node ?? [], ...functions.map(({ node }) => node)];
  for (let nodes = open.pop(); nodes !== undefined; nodes = open.pop()) {
    yield nodes;
    for (const node of nodes) open.push(...subgraphsOf(node).map((graph) => graph.node));
  }
}

/** Constants from this size on are weights, not shapes or scalars. */
const HOISTED_BYTES = 1024;

/** The first IR version whose initializers need not be listed as graph inputs too. */
const HOISTING_IR_VERSION = 4n;

/**
 * Replaces Constant nodes with large or external tensors by initializers named after the nodes' outputs. Subgraphs are
 * unchanged.
 * @throws ModelFormatError when a tensor's shape is impossible.
 */
function hoistConstants(graph: GraphProto, modelName: string): readonly TensorProto[] {
  const hoisted: TensorProto[] = [];
  graph.node = graph.node.filter((node) => {
    const tensor = constantTensor(node);
    const [output] = node.output;
    if (!tensor || !output || isString(tensor) || !isLarge(tensor, modelName)) return true;
    tensor.name = output;
    hoisted.push(tensor);
    return false;
  });
  return hoisted;
}

function constantTensor(node: NodeProto): TensorProto | undefined {
  const isConstant = node.opType === 'Constant' && (node.domain === '' || node.domain === 'ai.onnx');
  return isConstant ? node.attribute.find(({ name }) => name === 'value')?.t : undefined;
}

function isLarge(tensor: TensorProto, modelName: string): boolean {
  return isExternal(tensor) || expectedByteLength(shapeOf(tensor, modelName)) >= HOISTED_BYTES;
}

/**
 * Sorts nodes topologically, in place. ONNX requires that order, but some converters append casts at the end, and ONNX
 * Runtime accepts them. Sorted nodes are not moved. Subgraphs are sorted too.
 * @throws ModelFormatError for cycles.
 */
export function sortNodes(graph: GraphProto, modelName: string): void {
  for (const inner of graph.node.flatMap(subgraphsOf)) sortNodes(inner, modelName);
  const producerOf = new Map(graph.node.flatMap((node) => node.output.map((value) => [value, node] as const)));
  const sorted = new Set<NodeProto>();
  for (const node of graph.node) {
    // An explicit stack instead of recursion: graphs are thousands of nodes deep.
    const open = [node];
    const isOpen = new Set(open);
    for (let last = open.at(-1); last !== undefined; last = open.at(-1)) {
      const missing = inputsOf(last)
        .map((value) => producerOf.get(value))
        .find((producer) => producer !== undefined && !sorted.has(producer));
      if (missing === undefined) sorted.add(open.pop()!);
      else if (isOpen.has(missing)) {
        throw new ModelFormatError(
          `${modelName}: node "${missing.name || missing.output[0]}" depends on its own output. Export the model again.`,
        );
      } else {
        open.push(missing);
        isOpen.add(missing);
      }
    }
  }
  graph.node = [...sorted];
}

/** Most bytes of external tensors in subgraphs and functions; they must fit the protobuf (2 GiB) when it is saved. */
const MAX_INLINE_BYTES = 2 ** 30;

/**
 * Reads the external tensors that are not initializers of the main graph (in subgraphs, functions, attributes, sparse
 * tensors, training information) into the protobuf. They are few and small, and cannot be pruned.
 * @returns the files that they came from.
 * @throws ModelFormatError when one cannot be read, or all together are too large.
 */
async function inlineTensors(proto: ModelProto, sources: PayloadSources): Promise<readonly string[]> {
  const files = new Set<string>();
  let bytesLeft = MAX_INLINE_BYTES;
  for (const tensor of tensorsOfModel(proto)) {
    if (!isExternal(tensor)) continue;
    const { handle, externalFile } = await findPayload({ tensor }, sources);
    bytesLeft -= handle.byteLength;
    if (bytesLeft < 0) {
      throw new ModelFormatError(
        `${sources.model.name}: external tensors inside subgraphs and functions exceed ${MAX_INLINE_BYTES} bytes, up to "${tensor.name}".`,
      );
    }
    dropPayload(tensor);
    tensor.rawData = await handle.read();
    if (externalFile !== undefined) files.add(externalFile);
  }
  return [...files];
}

function* tensorsOfModel(proto: ModelProto): Generator<TensorProto> {
  if (proto.graph) yield* tensorsOfGraph(proto.graph);
  for (const { initialization, algorithm } of proto.trainingInfo) {
    if (initialization) yield* tensorsOfGraph(initialization);
    if (algorithm) yield* tensorsOfGraph(algorithm);
  }
  for (const { node, attributeProto } of proto.functions) {
    yield* tensorsOfNodes(node);
    for (const attribute of attributeProto) yield* tensorsOfAttribute(attribute);
  }
}

function* tensorsOfGraph(graph: GraphProto): Generator<TensorProto> {
  yield* graph.initializer;
  for (const sparse of graph.sparseInitializer) yield* tensorsOfSparse(sparse);
  yield* tensorsOfNodes(graph.node);
}

function* tensorsOfNodes(nodes: readonly NodeProto[]): Generator<TensorProto> {
  for (const { attribute } of nodes) for (const one of attribute) yield* tensorsOfAttribute(one);
}

function* tensorsOfAttribute(attribute: AttributeProto): Generator<TensorProto> {
  if (attribute.t) yield attribute.t;
  yield* attribute.tensors;
  if (attribute.sparseTensor) yield* tensorsOfSparse(attribute.sparseTensor);
  for (const sparse of attribute.sparseTensors) yield* tensorsOfSparse(sparse);
  if (attribute.g) yield* tensorsOfGraph(attribute.g);
  for (const graph of attribute.graphs) yield* tensorsOfGraph(graph);
}

function* tensorsOfSparse({ values, indices }: SparseTensorProto): Generator<TensorProto> {
  if (values) yield values;
  if (indices) yield indices;
}
