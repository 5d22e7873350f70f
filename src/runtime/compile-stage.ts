import { create } from '@bufbuild/protobuf';
import {
  GraphProtoSchema,
  ModelProtoSchema,
  type NodeProto,
  OperatorSetIdProtoSchema,
  type TensorProto,
  type ValueInfoProto,
  ValueInfoProtoSchema,
} from 'onnx-buf';
import { UnsupportedModelError } from '../errors.js';
import { freeBytes } from '../free-bytes.js';
import { makeInitializer, makeInt64Initializer, makeNode, makeValueInfo } from '../onnx/build.js';
import { dropUnusedNodes } from '../onnx/drop-unused.js';
import { encodeDetached } from '../onnx/encode-model.js';
import { extractStage } from '../onnx/extract-stage.js';
import type { GraphIndex } from '../onnx/graph-index.js';
import type { OnnxModel } from '../onnx/onnx-model.js';
import type { TwoRunFacts } from '../onnx/value-facts.js';
import { operatorOf } from '../operators/table.js';
import { dataTypeOf, type Engine, type Session, type SessionOptions, type TensorType } from './engine.js';

/** Nodes appended to a stage, such as sums over its values. */
export interface StageExtension {
  readonly nodes: readonly NodeProto[];
  readonly initializers: readonly TensorProto[];
  /** Additional graph inputs. */
  readonly inputs: readonly { readonly name: string; readonly type: TensorType }[];
  readonly outputs: readonly string[];
  /** Operator domains that the nodes need at version 1, besides those of the model. */
  readonly domains?: readonly string[];
}

/** Joins several extensions of one stage; their names must differ. */
export function joinExtensions(parts: readonly StageExtension[]): StageExtension {
  return {
    nodes: parts.flatMap(({ nodes }) => nodes),
    initializers: parts.flatMap(({ initializers }) => initializers),
    inputs: parts.flatMap(({ inputs }) => inputs),
    outputs: parts.flatMap(({ outputs }) => outputs),
    domains: [...new Set(parts.flatMap(({ domains = [] }) => domains))],
  };
}

/** The nodes of a stage with their weights. */
export interface LoadedSlice {
  readonly nodes: readonly NodeProto[];
  readonly initializers: ReadonlyMap<string, TensorProto>;
}

export interface CompileRequest {
  readonly engine: Pick<Engine, 'load' | 'copiesInputs'>;
  readonly model: OnnxModel;
  readonly index: GraphIndex;
  /** Whether a value can be fed, so that it need not be computed. */
  isAvailable(value: string): boolean;
  /** Values to return. */
  readonly fetches: readonly string[];
  /** Nodes to append; a function of the extracted nodes, for gradients. */
  readonly extension?: StageExtension | ((slice: LoadedSlice) => StageExtension) | undefined;
  /** Values of the stage that the extension reads, so that they are computed. */
  readonly reads?: readonly string[];
  /** Facts about values that the stage reads. */
  readonly facts: TwoRunFacts;
  /** Channels of an input's last axis that the graph reads. Absent: all. */
  readonly narrowed?: ReadonlyMap<string, Int32Array>;
  /**
   * Initializers that are fed in every run, so that they may change without a new session. Default: none, since ONNX Runtime
   * packs the graph's own weights for speed, but not fed ones.
   */
  readonly fed?: ReadonlySet<string> | undefined;
  readonly session?: SessionOptions;
}

export interface CompiledStage {
  readonly session: Session;
  /** Values to feed, without the extension's inputs. */
  readonly inputs: readonly string[];
  /** Input for the complete value, by the name of a narrowed value. */
  readonly narrowed: ReadonlyMap<string, string>;
}

/** Largest weight in bytes that ONNX Runtime may pack for speed, since it makes a copy for every operator that reads it. */
const MAX_PACKED = 2 ** 28;

/** Compiles one stage. Weights that are not fed are part of its graph: they are read here, and freed with the session. */
export async function compileStage(request: CompileRequest): Promise<CompiledStage> {
  const { engine, model, index, fetches, fed = new Set() } = request;
  const outputs = [...fetches, ...(request.reads ?? [])];
  const slice = extractStage(index, { outputs, isAvailable: request.isAvailable });
  const read: Uint8Array<ArrayBuffer>[] = [];
  const initializers = await Promise.all(
    slice.initializers.map(async (name) => {
      const handle = model.weights.get(name);
      if (handle === undefined) return model.proto.graph!.initializer.find((tensor) => tensor.name === name)!;
      if (fed.has(name)) return makeInitializer(name, handle.dataType, handle.dims, new Uint8Array());
      const bytes = await handle.read();
      read.push(bytes);
      return makeInitializer(name, handle.dataType, handle.dims, bytes);
    }),
  );
  const extension =
    typeof request.extension === 'function'
      ? request.extension({
          nodes: slice.nodes,
          initializers: new Map(initializers.map((tensor) => [tensor.name, tensor])),
        })
      : request.extension;
  const narrowings = slice.inputs.flatMap((name) => narrowInput(name, request.narrowed?.get(name)));
  const narrowed = new Map(narrowings.map(({ name, whole }) => [name, whole]));
  const [fedTensors, ownTensors] = [true, false].map((isFed) =>
    initializers.filter(({ name }) => fed.has(name) === isFed),
  );
  const isSized = slice.nodes.some((node) => operatorOf(node)?.needsSizes);
  const wanted = [...fetches, ...(extension?.outputs ?? [])];
  const proto = create(ModelProtoSchema, {
    irVersion: model.proto.irVersion < 8n ? 8n : model.proto.irVersion,
    opsetImport: importDomains(model, extension?.domains ?? []),
    functions: model.proto.functions,
    graph: create(GraphProtoSchema, {
      name: 'stage',
      node: [...narrowings.map(({ node }) => node), ...slice.nodes, ...(extension?.nodes ?? [])],
      initializer: [...narrowings.map(({ channels }) => channels), ...ownTensors!, ...(extension?.initializers ?? [])],
      input: [
        ...slice.inputs.map((name) => ({ ...declareInput(name, request), name: narrowed.get(name) ?? name })),
        ...fedTensors!.map((tensor) => declareFed(tensor, isSized)),
        ...(extension?.inputs ?? []).map(({ name, type }) => makeValueInfo(name, dataTypeOf(type))),
      ],
      output: [...new Set([...wanted, ...slice.nodes.flatMap(presentCaches)])].map((name) =>
        create(ValueInfoProtoSchema, { name }),
      ),
    }),
  });
  const alive = dropUnusedNodes(proto.graph!);
  proto.graph!.initializer = proto.graph!.initializer.filter(({ name }) => alive.has(name));
  const { bytes, weights } = encodeDetached(proto);
  const isLarge = ownTensors!.some(({ rawData }) => rawData.byteLength > MAX_PACKED);
  const session = await engine.load(bytes, { ...request.session, ...(isLarge && { isBrief: true }), weights });
  if (engine.copiesInputs) freeBytes(...read.splice(0));
  return {
    session: withOwnedWeights(session, { read, wanted }),
    inputs: slice.inputs,
    narrowed,
  };
}

/**
 * Caches that a node writes. The graph always outputs them: otherwise ONNX Runtime writes them to the buffer of a cast
 * empty cache, which is too small.
 */
function presentCaches(node: NodeProto): readonly string[] {
  const cache = operatorOf(node)?.cache ?? 'none';
  return cache === 'none' ? [] : cache.present.map((slot) => node.output[slot] ?? '').filter((value) => value !== '');
}

interface Owned {
  /** Weights that were read for the session, and are freed with it. */
  readonly read: readonly Uint8Array<ArrayBuffer>[];
  /** Default outputs of a run. */
  readonly wanted: readonly string[];
}

function withOwnedWeights(session: Session, { read, wanted }: Owned): Session {
  return {
    inputs: session.inputs,
    outputs: session.outputs,
    run: (feeds, fetches = wanted) => session.run(feeds, fetches),
    async release() {
      await session.release();
      freeBytes(...read);
    },
  };
}

/** Gathers the remaining channels of a value that is fed completely. */
function narrowInput(name: string, keep: Int32Array | undefined) {
  if (keep === undefined) return [];
  const [whole, positions] = [`${name}/whole`, `${name}/kept`];
  const node = makeNode({ op: 'Gather', inputs: [whole, positions], outputs: [name], attributes: { axis: -1 } });
  return [{ name, whole, node, channels: makeInt64Initializer(positions, [...keep]) }];
}

function importDomains({ proto }: OnnxModel, domains: readonly string[]) {
  const missing = domains.filter((domain) => !proto.opsetImport.some((known) => known.domain === domain));
  return [...proto.opsetImport, ...missing.map((domain) => create(OperatorSetIdProtoSchema, { domain, version: 1n }))];
}

/** Sizes of fed weights are open if possible, so that graphs that differ only in them are equal. */
const declareFed = ({ name, dataType, dims }: TensorProto, isSized: boolean): ValueInfoProto =>
  makeValueInfo(
    name,
    dataType,
    dims.map((dim, axis) => (isSized ? Number(dim) : `${name}/${axis}`)),
  );

/** Declares an input: as the model does, or with open sizes for those that differ between the two runs. */
function declareInput(
  name: string,
  { model, index, facts: { first, second, stepped } }: CompileRequest,
): ValueInfoProto {
  const declared = model.proto.graph?.input.find((info) => info.name === name);
  if (declared !== undefined) return declared;
  const [fact, other] = [first.get(name), second.get(name)];
  if (fact === undefined)
    throw new UnsupportedModelError(`the type of "${name}" is not known, so the graph cannot be cut there`);
  const isOpen = index.branching.has(name) || stepped?.has(name);
  const dims = fact.dims.map((dim, axis) => (dim === other?.dims[axis] && !isOpen ? dim : `${name}/${axis}`));
  return makeValueInfo(name, fact.dataType, dims);
}
