import type { GraphProto, NodeProto } from 'onnx-buf';
import { type GraphIndex, indexGraph, inputsOf, producerNode } from '../onnx/graph-index.js';
import { inputRole } from '../onnx/model-inputs.js';
import { operatorOf } from '../operators/table.js';

/** Tables with fewer rows are not for positions, but for token types or branches. */
const MIN_ROWS = 8;

/** Operators whose output has as many rows as their input 0, where both are matrices. */
const KEEPS_ROWS: ReadonlySet<string> = new Set(['Cast', 'Cos', 'DequantizeLinear', 'Identity', 'Mul', 'Sin']);

/**
 * Longest window by the size of a graph's position tables: learned positions, or precomputed rotary angles. A few rows may
 * have another purpose, so that the real limit can be slightly lower.
 *
 * @returns undefined for a graph without such tables.
 */
export function countPositions(graph: GraphProto): number | undefined {
  const index = indexGraph(graph);
  const rows = new Map(graph.initializer.map(({ name, dims }) => [name, dims.length === 2 ? Number(dims[0]) : 0]));
  const contents = new Set(
    [...index.inputs].filter((name) => ['tokens', 'tokenTypes'].includes(inputRole(name) ?? '')),
  );
  let least = Number.POSITIVE_INFINITY;
  for (const node of index.nodes) {
    const count = rows.get(followRows(index, findTable(node, index, contents))) ?? 0;
    if (count >= MIN_ROWS) least = Math.min(least, count);
    const reads = node.opType === 'Shape' ? [] : inputsOf(node);
    if (reads.some((value) => contents.has(value))) for (const value of node.output) contents.add(value);
  }
  return Number.isFinite(least) ? least : undefined;
}

/** The table of positions that a node reads; '' for other nodes. */
function findTable(node: NodeProto, { constants }: GraphIndex, contents: ReadonlySet<string>): string {
  const slot = operatorOf(node)?.positionTable ?? 'none';
  const [data = '', indices = ''] = node.input;
  const isLookUp = node.opType === 'Gather' && !constants.has(indices) && !contents.has(indices);
  const table = slot === 'none' ? (isLookUp ? data : '') : (node.input[slot] ?? '');
  return constants.has(table) ? table : '';
}

/** The weight from which a table is computed, with the same number of rows. */
function followRows(index: GraphIndex, value: string): string {
  let at = value;
  for (let node = producerNode(index, at); node !== undefined; node = producerNode(index, at)) {
    if (!KEEPS_ROWS.has(node.opType)) return at;
    at = node.input[0] ?? '';
  }
  return at;
}
