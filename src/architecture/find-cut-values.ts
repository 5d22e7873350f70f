import type { NodeProto } from 'onnx-buf';
import type { GraphIndex } from '../onnx/graph-index.js';
import { isViewOf } from '../onnx/is-view.js';
import { dataInputs, nodesBetween } from '../onnx/partition.js';
import { isAttention } from '../operators/operator.js';
import { operatorOf } from '../operators/table.js';

/** Hidden states at which a graph can be cut, and other values that later blocks read. */
export interface Cuts {
  /** Values of the residual stream, in order. */
  readonly cuts: readonly string[];
  /** Values of the tokens that several later blocks read: per-layer inputs, shared keys and values, and views of them. */
  readonly shared: ReadonlySet<string>;
}

/** A value read after this many attentions counts as shared; a hidden state is replaced after one. */
const SHARED_ATTENTIONS = 2;

/**
 * Finds the values that every path from the embedding to the logits passes through, in order. Reading only a value's shape
 * does not count, nor do paths through values that several blocks share (Gemma 3n and 4: per-layer inputs, keys and values of
 * an earlier layer).
 */
export function findCutValues(index: GraphIndex, embeddings: readonly number[], logits: string): Cuts {
  const path = nodesBetween(index, embeddings, logits);
  const strict = cutsWithout(index, path, { logits, shared: new Set() });
  const shared = findShared(index, path, new Set(strict));
  return { cuts: shared.size === 0 ? strict : cutsWithout(index, path, { logits, shared }), shared };
}

/** Values that are the only ones read later, shared values excluded. */
function cutsWithout(
  index: GraphIndex,
  path: readonly number[],
  { logits, shared }: { readonly logits: string; readonly shared: ReadonlySet<string> },
): string[] {
  const lastReader = findLastReaders(index, path);
  const cuts = new Set<string>();
  let live: readonly string[] = [];
  for (const at of path) {
    const outputs = index.nodes[at]!.output.filter((value) => lastReader.has(value) || value === logits);
    const isRead = (value: string) => (lastReader.get(value) ?? -1) > at || value === logits;
    live = [...live, ...outputs].filter((value) => isRead(value) && !shared.has(value));
    const [only] = live;
    if (live.length === 1 && only !== undefined) cuts.add(only);
  }
  return [...cuts];
}

function findLastReaders(index: GraphIndex, path: readonly number[]): Map<string, number> {
  const lastReader = new Map<string, number>();
  for (const at of path) for (const value of dataInputs(index.nodes[at]!)) lastReader.set(value, at);
  return lastReader;
}

/** Producer and last reader of a value, counted in attentions. */
interface Lifetime {
  readonly since: number;
  until: number;
  /** Attentions that read it as queries, keys or values, as none does with a hidden state. */
  readonly attentions: Set<number>;
}

/** Whether a node mixes tokens: attention in one operator, or one of its two products. */
function mixesTokens(index: GraphIndex, node: NodeProto): boolean {
  const operator = operatorOf(node);
  if (operator?.tokens === 'product') return node.input.every((input) => !index.constants.has(input));
  return isAttention(operator);
}

/** Values that are read after several attentions and are not hidden states. A view counts as its source. */
function findShared(index: GraphIndex, path: readonly number[], cuts: ReadonlySet<string>): Set<string> {
  const onPath = new Set(path.flatMap((at) => index.nodes[at]!.output));
  const sourceOf = new Map<string, string>();
  const lifetimes = new Map<string, Lifetime>();
  let attentionCount = 0;
  for (const at of path) {
    const node = index.nodes[at]!;
    for (const value of dataInputs(node)) {
      const lifetime = lifetimes.get(sourceOf.get(value) ?? value);
      if (lifetime === undefined) continue;
      lifetime.until = attentionCount;
      if (mixesTokens(index, node)) lifetime.attentions.add(attentionCount);
    }
    if (isAttention(operatorOf(node)) && !isRouter(index, node)) attentionCount += 1;
    const [source = ''] = node.input;
    const isView = isViewOf(node, index) && onPath.has(source) && !cuts.has(source);
    for (const value of node.output) {
      if (isView) sourceOf.set(value, sourceOf.get(source) ?? source);
      else lifetimes.set(value, { since: attentionCount, until: attentionCount, attentions: new Set() });
    }
  }
  const isShared = (value: string): boolean => {
    const lifetime = lifetimes.get(sourceOf.get(value) ?? value);
    if (lifetime === undefined || cuts.has(value)) return false;
    return lifetime.until - lifetime.since >= SHARED_ATTENTIONS || lifetime.attentions.size >= SHARED_ATTENTIONS;
  };
  return new Set([...onPath].filter(isShared));
}

/** The softmax of a router weighs experts, not tokens. */
function isRouter(index: GraphIndex, { opType, output: [result = ''] }: NodeProto): boolean {
  if (opType !== 'Softmax') return false;
  return (index.consumersOf.get(result) ?? []).some((at) => operatorOf(index.nodes[at]!)?.tokens === 'experts');
}
