import type { NodeProto } from 'onnx-buf';
import { type GraphIndex, inputsOf } from '../onnx/graph-index.js';
import type { ModelInput } from '../onnx/model-inputs.js';
import type { ValueFacts } from '../onnx/value-facts.js';
import { operatorOf } from '../operators/table.js';

export interface PositionRequest {
  readonly index: GraphIndex;
  readonly facts: ValueFacts;
  readonly inputs: readonly ModelInput[];
}

/** Tables with fewer rows are not for positions, but for token types or branches. */
const MIN_ROWS = 8;

/**
 * Longest window by the size of a graph's position tables: learned positions, or precomputed rotary angles. A few rows may
 * have another purpose, so that the real limit can be slightly lower.
 *
 * @returns undefined for a graph without such tables.
 */
export function countPositions({ index, facts, inputs }: PositionRequest): number | undefined {
  const contents = new Set(
    inputs.filter(({ role }) => role === 'tokens' || role === 'tokenTypes').map(({ name }) => name),
  );
  let least = Number.POSITIVE_INFINITY;
  for (const node of index.nodes) {
    const { dims = [] } = facts.get(findTable(node, index, contents)) ?? {};
    if (dims.length === 2 && dims[0]! >= MIN_ROWS) least = Math.min(least, dims[0]!);
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
