import type { NodeProto } from 'onnx-buf';
import type { OutputLinear } from '../architecture/layout.js';
import { makeInt64Initializer, makeNode } from '../onnx/build.js';
import { indexGraph, inputsOf, qualifiedOp } from '../onnx/graph-index.js';
import type { OnnxModel } from '../onnx/onnx-model.js';
import type { TwoRunFacts } from '../onnx/value-facts.js';
import { operatorOf } from '../operators/table.js';
import { splitSums } from '../runtime/lower-for-run.js';

/** Path of a row, a module's result that is the same for every token, to the residual stream. */
export interface RowPath {
  /** All nodes of the graph, with fused norms on the path split into a sum and a norm. */
  readonly nodes: readonly NodeProto[];
  /** Reshapes on the path, each with the nodes that reshape a single row. */
  readonly reshaped: ReadonlyMap<NodeProto, readonly NodeProto[]>;
  /** Sums of the row with the stream. */
  readonly ends: readonly RowEnd[];
}

export interface RowEnd {
  readonly node: NodeProto;
  /** The row, and the value of the stream that it is added to. */
  readonly value: string;
  readonly stream: string;
}

/** float32 and float16, as ONNX data types. */
const FLOATS: ReadonlySet<number> = new Set([1, 10]);

/**
 * Follows the result of an output projection that is the same for every token, through biases, scales, casts and norms, to
 * the sums with the residual stream.
 * @returns undefined if any other operator reads it.
 */
export function followRow(model: OnnxModel, linear: OutputLinear, facts: TwoRunFacts): RowPath | undefined {
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
