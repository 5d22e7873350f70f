import { create } from '@bufbuild/protobuf';
import { NodeProtoSchema } from 'onnx-buf';
import type { PrunableModule } from '../architecture/layout.js';
import { UnsupportedModelError } from '../errors.js';
import { setIntAttribute } from '../onnx/attributes.js';
import { makeInitializer, makeInt64Initializer, makeNode } from '../onnx/build.js';
import { FLOAT32 } from '../onnx/data-types.js';
import { encodeFloats } from '../onnx/float-encoding.js';
import { indexGraph } from '../onnx/graph-index.js';
import type { OnnxModel } from '../onnx/onnx-model.js';
import type { StageExtension } from '../runtime/compile-stage.js';
import { compileStage } from '../runtime/compile-stage.js';
import { dataTypeOf, type Engine, type Tensor, type Tensors } from '../runtime/engine.js';
import { tensorFloats } from '../runtime/tensor-floats.js';
import { releaseTensors } from '../runtime/tensor-memory.js';

/** Outputs of experts for rows of their input. */
export interface ExpertOutputs {
  /** `[rows, size]`, multiplied by the metric. */
  readonly weighted: Float32Array;
  /** Squared norms before the metric, by row. */
  readonly squares: Float32Array;
}

/** Typed array in the element type of the experts' input. */
export type ExpertRows = Float32Array | Uint16Array;

/** Single experts of one mixture. */
export interface ExpertProbe {
  /**
   * Runs the given experts for each row; results are concatenated in the order of the lists.
   * @param rows `[rows, channels]`, in the type of the mixture's input
   * @param experts by row
   */
  run(rows: ExpertRows, experts: readonly (readonly number[])[]): Promise<ExpertOutputs>;
  release(): Promise<void>;
}

export interface ExpertProbeRequest {
  readonly engine: Engine;
  readonly model: OnnxModel;
  readonly module: PrunableModule;
  /** Type of the mixture's input and scores. */
  readonly type: Tensor['type'];
  /** `[size, size]` row-major; rows are multiplied by it, so that squared norms are costs in the metric. Default: the identity. */
  readonly metric: Float32Array | undefined;
}

/** Nodes that cast a value `[.., size]` to float32 and multiply it by the metric. */
export function metricNodes(
  value: string,
  { name, metric, size }: { readonly name: string; readonly metric: Float32Array | undefined; readonly size: number },
): StageExtension & { readonly weighted: string; readonly plain: string } {
  const [plain, weighted, weight] = [`${name}/plain`, `${name}/weighted`, `${name}/metric`];
  const cast = makeNode({ op: 'Cast', inputs: [value], outputs: [plain], attributes: { to: FLOAT32 } });
  if (metric === undefined)
    return { nodes: [cast], initializers: [], inputs: [], outputs: [plain], weighted: plain, plain };
  return {
    nodes: [cast, makeNode({ op: 'MatMul', inputs: [plain, weight], outputs: [weighted] })],
    initializers: [makeInitializer(weight, FLOAT32, [size, size], encodeFloats(FLOAT32, metric))],
    inputs: [],
    outputs: [weighted],
    weighted,
    plain,
  };
}

interface OutputNodes extends StageExtension {
  /** Frees the results. */
  read(values: Tensors): ExpertOutputs;
}

/** Nodes after the experts' outputs `[rows, size]` that return `ExpertOutputs`. */
export function outputNodes(
  value: string,
  { metric, size }: { readonly metric: Float32Array | undefined; readonly size: number },
): OutputNodes {
  const inMetric = metricNodes(value, { name: 'experts/probe', metric, size });
  const [squared, squares, axes] = ['experts/probe/squared', 'experts/probe/squares', 'experts/probe/axes'];
  return {
    ...inMetric,
    nodes: [
      ...inMetric.nodes,
      makeNode({ op: 'Mul', inputs: [inMetric.plain, inMetric.plain], outputs: [squared] }),
      makeNode({ op: 'ReduceSum', inputs: [squared, axes], outputs: [squares], attributes: { keepdims: 0 } }),
    ],
    initializers: [...inMetric.initializers, makeInt64Initializer(axes, [-1])],
    outputs: [inMetric.weighted, squares],
    read(values) {
      const floats = (name: string) => tensorFloats(values[name]!, 'outputs of experts').slice();
      const outputs = { weighted: floats(inMetric.weighted), squares: floats(squares) };
      releaseTensors(values);
      return outputs;
    },
  };
}

/** Gathers rows of `size` numbers by index; an index may repeat. */
export function gatherRows(rows: ExpertRows, indices: readonly number[], size: number): ExpertRows {
  const length = indices.length * size;
  const gathered = rows instanceof Uint16Array ? new Uint16Array(length) : new Float32Array(length);
  indices.forEach((row, at) => {
    gathered.set(rows.subarray(row * size, (row + 1) * size), at * size);
  });
  return gathered;
}

/** Far below every score, and finite in float16. */
const MASKED_SCORE = -1e4;

/**
 * Opens a fused mixture so that single experts can be run: artificial scores route each row to one expert of the
 * operator, so that activations and packed weights are computed as the runtime computes them.
 */
export async function openExpertProbe({
  engine,
  model,
  module,
  type,
  metric,
}: ExpertProbeRequest): Promise<ExpertProbe> {
  const { input: scores, result, inputCount: expertCount, outputCount: size, node: label } = module.output;
  const graph = model.proto.graph!;
  const found = graph.node.find(({ output }) => output.includes(result));
  if (found === undefined) throw new UnsupportedModelError(`the mixture ${label} is no longer in the graph`);
  const node = create(NodeProtoSchema, { ...found, attribute: [...found.attribute] });
  setIntAttribute(node, 'k', 1);
  setIntAttribute(node, 'normalize_routing_weights', 1);
  setIntAttribute(node, 'use_sparse_mixer', 0);
  const dataType = dataTypeOf(type);
  const factsOf = (rows: number) =>
    new Map([
      [module.input, { dataType, dims: [rows, size] }],
      [scores, { dataType, dims: [rows, expertCount] }],
    ]);
  const extension = outputNodes(result, { metric, size });
  const { session } = await compileStage({
    engine,
    model,
    index: indexGraph({ ...graph, node: [node] }),
    isAvailable: (value) => value === module.input || value === scores,
    fetches: [],
    reads: [result],
    extension,
    facts: { first: factsOf(2), second: factsOf(3) },
  });
  const scoresFor = (experts: Int32Array): Tensor => {
    const values = new Float32Array(experts.length * expertCount).fill(MASKED_SCORE);
    experts.forEach((expert, row) => {
      values[row * expertCount + expert] = 0;
    });
    return tensorOf(type, [experts.length, expertCount], encodeFloats(dataType, values));
  };
  return {
    async run(rows, lists) {
      const experts = Int32Array.from(lists.flat());
      const rowOfExpert = lists.flatMap((list, row) => list.map(() => row));
      const data = gatherRows(rows, rowOfExpert, size);
      const feeds = {
        [module.input]: { type, dims: [experts.length, size], data } as Tensor,
        [scores]: scoresFor(experts),
      };
      return extension.read(await session.run(feeds, extension.outputs));
    },
    release: () => session.release(),
  };
}

function tensorOf(type: Tensor['type'], dims: readonly number[], bytes: Uint8Array<ArrayBuffer>): Tensor {
  const data = type === 'float16' ? new Uint16Array(bytes.buffer) : new Float32Array(bytes.buffer);
  return { type, dims, data } as Tensor;
}
