import type { NodeProto } from 'onnx-buf';
import type { OutputLinear } from '../architecture/layout.js';
import { floatAttribute } from '../onnx/attributes.js';
import { makeInt64Initializer, makeNode } from '../onnx/build.js';
import { FLOAT16, FLOAT32 } from '../onnx/data-types.js';
import { dropUnusedNodes } from '../onnx/drop-unused.js';
import { decodeFloats, encodeFloats, readFloat32 } from '../onnx/float-encoding.js';
import { indexGraph, inputsOf, qualifiedOp } from '../onnx/graph-index.js';
import type { OnnxModel } from '../onnx/onnx-model.js';
import { floatsHandle } from '../onnx/tensor-handle.js';
import type { TwoRunFacts } from '../onnx/value-facts.js';
import { operatorOf } from '../operators/table.js';
import { compileStage } from '../runtime/compile-stage.js';
import { dataTypeOf, type Engine, type Tensor } from '../runtime/engine.js';
import { splitSums } from '../runtime/lower-for-run.js';
import { tensorFloats } from '../runtime/tensor-floats.js';
import { editGraph } from './graph-editor.js';

export interface RemovedModule {
  readonly engine: Engine;
  readonly facts: TwoRunFacts;
  /** The module's output projection, all of whose input channels are removed. */
  readonly linear: OutputLinear;
  /** Bias that replaces the removed units in the linear layer's result. */
  readonly bias?: Float64Array | undefined;
}

/** Removal of an entire module from its graph. */
export interface ModuleRemoval {
  /**
   * Removes it, in place: a constant row, or nothing, is added to the residual stream instead of its result.
   * @returns Outputs of Identity nodes on the stream, for `bypassRemoved`.
   */
  apply(): readonly string[];
}

/**
 * Plans the removal of a module. Without input channels, its output projection writes one row for all tokens: zeros, or
 * biases. Its path to the residual stream is found by `followRow`.
 *
 * @returns undefined if there is no such path, or the row is not finite.
 */
export async function planModuleRemoval(model: OnnxModel, given: RemovedModule): Promise<ModuleRemoval | undefined> {
  const path = followRow(model, given.linear, given.facts);
  const start = path && (await readStart(model, given));
  if (path === undefined || start === undefined) return undefined;
  const rows = await computeRows(model, { ...given, path, start });
  if ([...rows.values()].some(({ values }) => !values.every(Number.isFinite))) return undefined;
  return { apply: () => removeFromGraph(model, { path, rows }) };
}

/** Output of the linear layer without input: the repair's bias, and that of a Gemm. */
async function readStart(model: OnnxModel, { linear, facts, bias }: RemovedModule): Promise<Float64Array | undefined> {
  const start = Float64Array.from(bias ?? new Float64Array(linear.outputCount));
  const node = editGraph(model).producerOf(linear.result);
  const own = node?.opType === 'Gemm' ? (node.input[2] ?? '') : '';
  if (!FLOATS.has(facts.first.get(linear.result)?.dataType ?? 0) || node === undefined) return undefined;
  if (own === '') return start;
  const handle = model.weights.get(own);
  if (handle === undefined) return undefined;
  const values = await readFloat32(handle);
  if (values.length !== 1 && values.length !== start.length) return undefined;
  const beta = floatAttribute(node, 'beta', 1);
  return start.map((value, at) => value + beta * values[values.length === 1 ? 0 : at]!);
}

interface Row {
  readonly dataType: number;
  readonly values: Float32Array;
}

interface RowProblem extends RemovedModule {
  readonly path: RowPath;
  readonly start: Float64Array;
}

/** Computes the row at each end, in the engine that runs the model. */
async function computeRows(model: OnnxModel, problem: RowProblem): Promise<ReadonlyMap<string, Row>> {
  const { engine, facts, linear, path, start } = problem;
  const { dataType, dims } = facts.first.get(linear.result)!;
  const fetches = [...new Set(path.ends.map(({ value }) => value))];
  const bytes = encodeFloats(dataType, start);
  if (fetches.every((value) => value === linear.result))
    return new Map([[linear.result, { dataType, values: decodeFloats(dataType, bytes) }]]);
  const node = path.nodes.flatMap((step) => path.reshaped.get(step) ?? [step]);
  const index = indexGraph({ ...model.proto.graph!, node });
  const isAvailable = (value: string) => value === linear.result;
  const { session } = await compileStage({ engine, model, index, isAvailable, fetches, facts });
  try {
    const data = dataType === FLOAT16 ? new Uint16Array(bytes.buffer) : new Float32Array(bytes.buffer);
    const row = { type: dataType === FLOAT16 ? 'float16' : 'float32', dims: dims.map(() => 1), data } as Tensor;
    const feeds = { [linear.result]: { ...row, dims: [...row.dims.slice(1), linear.outputCount] } as Tensor };
    const found = await session.run(feeds, fetches);
    return new Map(fetches.map((value) => [value, readRow(found[value]!)]));
  } finally {
    await session.release();
  }
}

function readRow(row: Tensor): Row {
  return { dataType: dataTypeOf(row.type), values: tensorFloats(row, 'the constant row of a removed module').slice() };
}

interface ComputedRows {
  readonly path: RowPath;
  readonly rows: ReadonlyMap<string, Row>;
}

function removeFromGraph(model: OnnxModel, { path, rows }: ComputedRows): string[] {
  const graph = model.proto.graph!;
  graph.node.splice(0, graph.node.length, ...path.nodes);
  const editor = editGraph(model);
  const bridges: string[] = [];
  for (const { node, value, stream } of path.ends) {
    const { dataType, values } = rows.get(value)!;
    if (values.every((entry) => entry === 0)) {
      node.opType = 'Identity';
      node.input = [stream];
      bridges.push(node.output[0] ?? '');
    } else {
      const row = floatsHandle({ dataType, dims: [values.length] }, values);
      node.input = [stream, editor.addWeight(`${value}/row`, row)];
    }
  }
  dropUnusedNodes(graph);
  return bridges;
}

/** Path of a row, a module's result that is the same for every token, to the residual stream. */
interface RowPath {
  /** All nodes of the graph, with fused norms on the path split into a sum and a norm. */
  readonly nodes: readonly NodeProto[];
  /** Reshapes on the path, each with the nodes that reshape a single row. */
  readonly reshaped: ReadonlyMap<NodeProto, readonly NodeProto[]>;
  /** Sums of the row with the stream. */
  readonly ends: readonly RowEnd[];
}

interface RowEnd {
  readonly node: NodeProto;
  /** The row, and the value of the stream that it is added to. */
  readonly value: string;
  readonly stream: string;
}

const FLOATS: ReadonlySet<number> = new Set([FLOAT32, FLOAT16]);

/**
 * Follows the result of an output projection that is the same for every token, through biases, scales, casts and norms, to
 * the sums with the residual stream.
 * @returns undefined if any other operator reads it.
 */
function followRow(model: OnnxModel, linear: OutputLinear, facts: TwoRunFacts): RowPath | undefined {
  const graph = model.proto.graph!;
  const { constants } = indexGraph(graph);
  const dimsOf = (value = '') => facts.first.get(value)?.dims ?? [];
  const rows = new Set([linear.result]);
  const nodes: NodeProto[] = [];
  const reshaped = new Map<NodeProto, readonly NodeProto[]>();
  const ends: RowEnd[] = [];
  const reads = (node: NodeProto) => inputsOf(node).some((value) => rows.has(value));
  for (const fused of graph.node) {
    const split = reads(fused) ? splitSums([fused]) : [fused];
    nodes.push(...split);
    for (const node of split) {
      if (!reads(node)) continue;
      const [value = '', second = ''] = node.input;
      const [output = ''] = node.output;
      const others = inputsOf(node).filter((input) => !rows.has(input) && !constants.has(input));
      const tokens = operatorOf(node)?.tokens;
      if (tokens === 'layout' && rows.has(value) && dimsOf(output).at(-1) === linear.outputCount) {
        reshaped.set(node, asRow(node, dimsOf(output)));
        rows.add(output);
      } else if (others.length === 0 && tokens === 'each' && isRow(node, rows, dimsOf)) rows.add(output);
      else if (qualifiedOp(node) === 'Add' && others.length === 1) {
        const [stream = ''] = others;
        ends.push({ node, value: value === stream ? second : value, stream });
      } else return undefined;
    }
  }
  const isFloat = ends.every(({ value }) => FLOATS.has(facts.first.get(value)?.dataType ?? 0));
  const isComplete = isFloat && ends.length > 0 && graph.output.every(({ name }) => !rows.has(name));
  return isComplete ? { nodes, reshaped, ends } : undefined;
}

/** Whether a node's output is the same for every token too: it changes only the last axis. */
function isRow({ input, output }: NodeProto, rows: ReadonlySet<string>, dimsOf: (value?: string) => readonly number[]) {
  const leading = (value?: string) => dimsOf(value).slice(0, -1).join();
  return input.filter((value) => rows.has(value)).every((value) => leading(value) === leading(output[0]));
}

function asRow({ input, output }: NodeProto, dims: readonly number[]): NodeProto[] {
  const shape = `${output[0]}/row_shape`;
  const ints = dims.map((dim, axis) => (axis === dims.length - 1 ? dim : 1));
  return [
    makeNode({
      op: 'Constant',
      inputs: [],
      outputs: [shape],
      attributes: { value: { tensor: makeInt64Initializer('', ints) } },
    }),
    makeNode({ op: 'Reshape', inputs: [input[0] ?? '', shape], outputs: output }),
  ];
}
