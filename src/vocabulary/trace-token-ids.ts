import type { NodeProto } from 'onnx-buf';
import { intAttribute } from '../onnx/attributes.js';
import { qualifiedOp } from '../onnx/graph-index.js';
import { findTokenInput } from '../onnx/model-inputs.js';
import { type Consumer, keyOf, type ScopedValue } from './graph-scopes.js';
import { traceTable } from './trace-table.js';
import { constantDims, follow, readConstant, refuseNode, type Tracing } from './vocabulary-trace.js';

/**
 * Follows token ids through a graph: to the tables whose rows they select, and to constants that they are compared with.
 * @returns rows of the largest table; undefined if there is none
 * @throws UnsupportedModelError naming a node with another use of ids
 */
export async function traceTokenIds(tracing: Tracing): Promise<number | undefined> {
  const { scopes, model } = tracing;
  const inputs = model.proto.graph!.input.filter(({ name }) => !model.weights.has(name));
  const start = findTokenInput(inputs);
  if (start === undefined) return undefined;
  const pending: ScopedValue[] = [{ scope: scopes.main, name: start.name }];
  const seen = new Set<string>();
  let most: number | undefined;
  for (let value = pending.pop(); value !== undefined; value = pending.pop()) {
    if (seen.has(keyOf(value))) continue;
    seen.add(keyOf(value));
    for (const reader of scopes.consumersOf(value)) {
      const rows = await LOOKUPS[qualifiedOp(reader.node ?? NO_NODE)]?.(tracing, reader);
      if (rows !== undefined) most = Math.max(most ?? 0, rows);
      else pending.push(...(await nextValues(tracing, reader)));
    }
  }
  return most;
}

const NO_NODE = { opType: '', domain: '' } as NodeProto;

/** Lookups by ids: rows of their table; undefined if the ids are not the indices. */
const LOOKUPS: Readonly<Record<string, (tracing: Tracing, reader: Consumer) => Promise<number | undefined>>> = {
  Gather: (tracing, reader) => lookUp(tracing, reader, [0]),
  'com.microsoft.GatherBlockQuantized': (tracing, reader) => lookUp(tracing, reader, [0, 2, 3]),
};

async function lookUp(tracing: Tracing, reader: Consumer, tables: readonly number[]): Promise<number | undefined> {
  const { scope, input } = reader;
  const node = reader.node!;
  if (input !== 1) return undefined;
  follow(tracing, scope, node, 1);
  const axis = intAttribute(node, 'axis', 0) || intAttribute(node, 'gather_axis', 0);
  const dims = await constantDims(tracing, tracing.scopes.resolve(scope, node.input[0] ?? ''));
  if (axis !== 0 || dims?.[0] === undefined)
    throw refuseNode(node, 'looks up token ids in a value that is not a table of rows');
  const [rows] = dims;
  for (const table of tables) {
    if ((node.input[table] ?? '') === '') continue;
    await traceTable(tracing, { value: follow(tracing, scope, node, table), axis: 0, rows }, node);
  }
  return rows;
}

/** Results of a reader that are ids too. */
async function nextValues(tracing: Tracing, reader: Consumer): Promise<readonly ScopedValue[]> {
  const { scope, node, input } = reader;
  if (node === undefined) return outputsOf(tracing, reader);
  const rule = ID_RULES[qualifiedOp(node)];
  if (rule === undefined || (rule.inputs !== undefined && !rule.inputs.includes(input)))
    throw refuseNode(node, 'uses token ids other than in lookups and comparisons');
  follow(tracing, scope, node, input);
  if (rule.constants !== undefined) {
    for (const other of rule.constants) {
      const name = node.input[other] ?? '';
      if (other === input || name === '') continue;
      const found = await readConstant(tracing, tracing.scopes.resolve(scope, name));
      // Other values are computed from ids too, or are unrelated.
      if (found !== undefined) tracing.constants.push({ node, input: other, ...found });
      else if (!rule.mayMeetOthers) throw refuseNode(node, 'compares token ids with a value that is not a constant');
    }
  }
  return rule.returns === 'ids' ? node.output.filter((name) => name !== '').map((name) => ({ scope, name })) : [];
}

/** Outputs of a branch are outputs of its node. */
function outputsOf({ scopes }: Tracing, { scope, input }: Consumer): readonly ScopedValue[] {
  const { parent } = scope;
  if (parent === undefined) return [];
  const node = parent.graph.node.find((outer) => scopes.branchesOf(outer).includes(scope));
  const name = node?.output[input];
  return name === undefined ? [] : [{ scope: parent, name }];
}

/** Treatment of ids by an operator. */
interface IdRule {
  /** Inputs that may be ids; absent: any. */
  readonly inputs?: readonly number[];
  /** Inputs whose constants are ids too. */
  readonly constants?: readonly number[];
  /** Whether other inputs may be computed values. */
  readonly mayMeetOthers?: boolean;
  readonly returns: 'ids' | 'nothing';
}

const UNCHANGED: IdRule = { inputs: [0], returns: 'ids' };
const COMPARED: IdRule = { constants: [0, 1], returns: 'nothing' };
/** The order of ids remains, so that the larger id is the same token. */
const BOUNDED: IdRule = { constants: [0, 1, 2], returns: 'ids' };

const ID_RULES: Readonly<Record<string, IdRule>> = {
  Identity: UNCHANGED,
  Cast: UNCHANGED,
  Reshape: UNCHANGED,
  Unsqueeze: UNCHANGED,
  Squeeze: UNCHANGED,
  Flatten: UNCHANGED,
  Transpose: UNCHANGED,
  Slice: UNCHANGED,
  Split: UNCHANGED,
  Expand: UNCHANGED,
  Tile: UNCHANGED,
  Gather: UNCHANGED,
  Shape: { inputs: [0], returns: 'nothing' },
  Size: { inputs: [0], returns: 'nothing' },
  Equal: COMPARED,
  Less: COMPARED,
  LessOrEqual: COMPARED,
  Greater: COMPARED,
  GreaterOrEqual: COMPARED,
  Max: BOUNDED,
  Min: BOUNDED,
  Clip: BOUNDED,
  Where: { inputs: [1, 2], constants: [1, 2], mayMeetOthers: true, returns: 'ids' },
};
