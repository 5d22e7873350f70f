import { create } from '@bufbuild/protobuf';
import {
  GraphProtoSchema,
  type ModelProto,
  ModelProtoSchema,
  type TensorProto,
  type ValueInfoProto,
  ValueInfoProtoSchema,
} from 'onnx-buf';
import { findCutValues } from '../architecture/find-cut-values.js';
import { EngineError } from '../errors.js';
import { freeBytes } from '../free-bytes.js';
import { makeInitializer, makeValueInfo } from '../onnx/build.js';
import { commonFolder, encodeDetached, encodePlaced } from '../onnx/encode-model.js';
import { carriedValues, extractStage } from '../onnx/extract-stage.js';
import { type GraphIndex, indexGraph } from '../onnx/graph-index.js';
import { joinStages } from '../onnx/join-stages.js';
import { findTokenInput } from '../onnx/model-inputs.js';
import type { OnnxModel } from '../onnx/onnx-model.js';
import { findEmbeddings, partitionGraph } from '../onnx/partition.js';
import type { JobControl } from '../progress.js';
import {
  type DeclaredValue,
  dataTypeOf,
  type Engine,
  type Session,
  type SessionOptions,
  type Tensors,
  type TensorType,
} from './engine.js';
import { releaseTensors, retainTensor } from './tensor-memory.js';

/**
 * Compiles an entire model. The engine reads the weights from their files if it can, else they are passed in memory.
 * @throws EngineError
 */
export async function compileInPlace(engine: Engine, model: OnnxModel): Promise<Session> {
  const folder = engine.loadFile && !engine.copiesInputs ? commonFolder(model) : undefined;
  if (folder === undefined) return compileModel(engine, model);
  try {
    return await engine.load(await encodePlaced(model), { folder });
  } catch (error) {
    // ONNX Runtime refuses links out of the folder, even to valid weights.
    if (error instanceof EngineError) return compileModel(engine, model);
    throw error;
  }
}

/** Compiles an entire model with its weights in memory, for engines without file access. @throws EngineError */
export function compileModel(engine: Engine, model: OnnxModel): Promise<Session> {
  const compile = (part: OnnxModel) => compileAtOnce(engine, part);
  return engine.copiesInputs ? compileInPieces(model, compile) : compile(model);
}

/**
 * Compiles a model that does not fit in memory: every run opens and releases its blocks in order, and so reads all weights.
 * @throws EngineError
 */
export function compileBlockByBlock(
  engine: Engine,
  model: OnnxModel,
  { signal }: Pick<PiecesOptions, 'signal'> = {},
): Promise<Session> {
  const compile = (part: OnnxModel) => compileAtOnce(engine, part, { isBrief: true });
  return compileInPieces(model, compile, { reopens: true, signal });
}

async function compileAtOnce(
  engine: Engine,
  model: OnnxModel,
  options?: Pick<SessionOptions, 'isBrief'>,
): Promise<Session> {
  const graph = { ...model.proto.graph!, initializer: await readInitializers(model) };
  const { bytes, weights } = encodeDetached({ ...model.proto, graph });
  const session = await engine.load(bytes, { ...options, weights });
  const free = () =>
    freeBytes(...graph.initializer.filter(({ name }) => model.weights.has(name)).map(({ rawData }) => rawData));
  if (engine.copiesInputs) {
    free();
    return session;
  }
  return {
    ...session,
    async release() {
      await session.release();
      free();
    },
  };
}

/** All initializers of a model, with their payloads. */
export function readInitializers({ proto, weights }: OnnxModel): Promise<TensorProto[]> {
  return Promise.all(
    proto.graph!.initializer.map(async (tensor) => {
      const handle = weights.get(tensor.name);
      return handle ? makeInitializer(tensor.name, handle.dataType, handle.dims, await handle.read()) : tensor;
    }),
  );
}

interface PiecesOptions extends Pick<JobControl, 'signal'> {
  /**
   * Whether every run opens each piece and releases it, so that one piece's weights are in memory at a time: for models that do
   * not fit. Default false.
   */
  readonly reopens?: boolean | undefined;
}

/**
 * Compiles an entire model as sessions of consecutive blocks that run in order, so that few weights are in memory twice while the
 * engine copies them. A model without a detected residual stream is one piece.
 * @param compile creates the session of a piece
 * @throws EngineError
 */
async function compileInPieces(
  model: OnnxModel,
  compile: (piece: OnnxModel) => Promise<Session>,
  { reopens = false, signal }: PiecesOptions = {},
): Promise<Session> {
  const index = indexGraph(model.proto.graph!);
  const pieces: Session[] = [];
  try {
    const known = new Map(model.proto.graph!.input.map((info) => [info.name, info]));
    for (const wanted of findPieces(model, index)) {
      signal?.throwIfAborted();
      const part = { ...model, proto: extractPiece(model.proto, index, { known, wanted }) };
      const piece = await (reopens ? declareOnly(() => compile(part)) : compile(part));
      pieces.push(piece);
      for (const value of piece.outputs) if (!index.outputs.has(value.name)) known.set(value.name, declare(value));
    }
  } catch (error) {
    await releaseAll(pieces);
    throw error;
  }
  return pieces.length === 1 ? pieces[0]! : chain(pieces, index, signal);
}

/** A session that is opened for each run, and once before to read its inputs and outputs. */
async function declareOnly(open: () => Promise<Session>): Promise<Session> {
  const { inputs, outputs, release } = await open();
  await release();
  return {
    inputs,
    outputs,
    async run(feeds, fetches) {
      const session = await open();
      try {
        return await session.run(feeds, fetches);
      } finally {
        await session.release();
      }
    },
    release: async () => undefined,
  };
}

/** Outputs of each piece: the hidden state, other values that later pieces read, and the model's outputs. */
function findPieces(model: OnnxModel, index: GraphIndex): readonly (readonly string[])[] {
  const partition = partitionGraph(index, findCuts(model, index));
  const last = partition.cuts.length;
  const outputsOf = (stage: number) =>
    [...index.outputs].filter((value) => (partition.stageOf.get(value) ?? last) === stage);
  return carriedValues(index, partition).map((carried, stage) => [
    ...new Set([...partition.cuts.slice(stage, stage + 1), ...carried, ...outputsOf(stage)]),
  ]);
}

const LOGITS = 'logits';

function findCuts(model: OnnxModel, index: GraphIndex): readonly string[] {
  const tokens = findTokenInput(model.proto.graph!.input);
  if (tokens === undefined || !index.outputs.has(LOGITS)) return [];
  const found = findCutValues(index, findEmbeddings(index, tokens.name), LOGITS);
  const cuts = found.cuts.filter((value) => value !== LOGITS);
  return joinStages(model, { index, cuts, logits: LOGITS });
}

interface Piece {
  /** Inputs of the model, and outputs of earlier pieces. */
  readonly known: ReadonlyMap<string, ValueInfoProto>;
  readonly wanted: readonly string[];
}

function extractPiece(proto: ModelProto, index: GraphIndex, { known, wanted }: Piece): ModelProto {
  const graph = proto.graph!;
  const slice = extractStage(index, { outputs: wanted, isAvailable: (value) => known.has(value) });
  const read = new Set(slice.initializers);
  return create(ModelProtoSchema, {
    irVersion: proto.irVersion,
    opsetImport: proto.opsetImport,
    functions: proto.functions,
    graph: create(GraphProtoSchema, {
      name: graph.name,
      node: [...slice.nodes],
      initializer: graph.initializer.filter(({ name }) => read.has(name)),
      input: slice.inputs.map((name) => known.get(name)!),
      output: wanted.map(
        (name) => graph.output.find((info) => info.name === name) ?? create(ValueInfoProtoSchema, { name }),
      ),
    }),
  });
}

function declare({ name, type, dims }: DeclaredValue): ValueInfoProto {
  const named = dims.map((dim, axis) => (dim === '' ? `${name}/${axis}` : dim));
  return makeValueInfo(name, dataTypeOf(type as TensorType), named);
}

/** Joins sessions into one: each reads outputs of those before it. */
function chain(pieces: readonly Session[], index: GraphIndex, signal: AbortSignal | undefined): Session {
  const inputs = new Map(pieces.flatMap((piece) => piece.inputs.map((input) => [input.name, input])));
  const outputs = new Map(pieces.flatMap((piece) => piece.outputs.map((output) => [output.name, output])));
  const inOrder = (names: ReadonlySet<string>, found: ReadonlyMap<string, DeclaredValue>) =>
    [...names].flatMap((name) => found.get(name) ?? []);
  return {
    inputs: inOrder(index.inputs, inputs),
    outputs: inOrder(index.outputs, outputs),
    async run(feeds, fetches = [...index.outputs]) {
      const results: Record<string, Tensors[string]> = {};
      for (const { piece, outputs: pieceOutputs } of planRun(pieces, fetches)) {
        signal?.throwIfAborted();
        const pieceFeeds = piece.inputs.map(({ name }) => [name, feeds[name] ?? results[name]!] as const);
        Object.assign(results, await piece.run(Object.fromEntries(pieceFeeds), pieceOutputs));
      }
      const requested = Object.fromEntries(fetches.map((name) => [name, results[name]!]));
      for (const tensor of Object.values(requested)) retainTensor(tensor);
      releaseTensors(results);
      return requested;
    },
    release: () => releaseAll(pieces),
  };
}

/** Pieces that are needed for some values, in order, with the outputs to fetch from each. */
function planRun(pieces: readonly Session[], fetches: readonly string[]) {
  const wanted = new Set(fetches);
  return pieces
    .toReversed()
    .map((piece) => {
      const outputs = piece.outputs.map(({ name }) => name).filter((name) => wanted.has(name));
      if (outputs.length > 0) for (const { name } of piece.inputs) wanted.add(name);
      return { piece, outputs };
    })
    .filter(({ outputs }) => outputs.length > 0)
    .toReversed();
}

async function releaseAll(sessions: readonly Session[]): Promise<void> {
  for (const session of sessions) await session.release();
}
