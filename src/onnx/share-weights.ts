import type { NodeProto } from 'onnx-buf';
import { makeNode } from './build.js';
import { isEqualTensor, isTransposed } from './equal-tensors.js';
import { isFloatType } from './float-encoding.js';
import { type GraphIndex, indexGraph } from './graph-index.js';
import type { OnnxModel, SharedWeight, TensorHandle } from './onnx-model.js';

/** Smaller weights are not compared. */
const MIN_BYTES = 2 ** 20;

/** Operators that read a row of a table by its index. */
const LOOKUPS: ReadonlySet<string> = new Set(['Gather', 'GatherBlockQuantized']);

/** Operators whose weights are pruned: two equal weights may be pruned differently. */
const PRODUCTS: ReadonlySet<string> = new Set(['MatMul', 'Gemm', 'Conv', 'Einsum', 'FusedMatMul', 'Transpose']);

/**
 * Keeps one copy of large float weights with equal content. Exporters write tied embeddings twice, often transposed:
 * the second copy is replaced by the first one or its `Transpose`. Equal weights of two products stay separate, since
 * each may be pruned differently.
 *
 * @returns `model` itself if no weights are equal.
 */
export async function shareWeights(model: OnnxModel): Promise<OnnxModel> {
  const pairs = await findPairs(model);
  if (pairs.length === 0) return model;
  const { noPastBranch } = model;
  return {
    ...replaceCopies(model, pairs),
    shared: pairs.map(({ copy, byteLength }) => ({ name: copy, byteLength })),
    ...(noPastBranch && { noPastBranch: { ...noPastBranch, model: replaceCopies(noPastBranch.model, pairs) } }),
  };
}

/** Two weights with equal content. */
interface EqualPair extends Pick<SharedWeight, 'byteLength'> {
  readonly original: string;
  readonly copy: string;
  readonly isTransposed: boolean;
}

/** A weight to compare, with its uses. */
interface Candidate {
  readonly name: string;
  readonly handle: TensorHandle;
  readonly isTable: boolean;
  readonly isFactor: boolean;
}

async function findPairs(model: OnnxModel): Promise<EqualPair[]> {
  const models = [model, ...(model.noPastBranch ? [model.noPastBranch.model] : [])];
  const indexes = models.map(({ proto }) => indexGraph(proto.graph!));
  const candidates = (model.proto.graph?.initializer ?? []).flatMap(
    ({ name }) => describeWeight(name, model.weights.get(name), indexes) ?? [],
  );
  // Tables first: a copy becomes the table, or its transpose.
  const ordered = [...candidates.filter(({ isTable }) => isTable), ...candidates.filter(({ isTable }) => !isTable)];
  const pairs: EqualPair[] = [];
  const replaced = new Set<string>();
  for (const [at, { name: original, handle, ...use }] of ordered.entries()) {
    if (replaced.has(original)) continue;
    for (const other of ordered.slice(at + 1)) {
      if (replaced.has(other.name) || other.handle.byteLength !== handle.byteLength) continue;
      if (!use.isTable && (use.isFactor || other.isFactor)) continue;
      const found = await comparePair(handle, other.handle, use.isTable);
      if (found === undefined) continue;
      replaced.add(other.name);
      pairs.push({ original, copy: other.name, byteLength: handle.byteLength, isTransposed: found === 'transposed' });
    }
  }
  return pairs;
}

function describeWeight(
  name: string,
  handle: TensorHandle | undefined,
  indexes: readonly GraphIndex[],
): Candidate | undefined {
  if (handle === undefined || !isFloatType(handle.dataType) || handle.byteLength < MIN_BYTES) return undefined;
  const readers = indexes.flatMap(({ consumersOf, nodes }) => (consumersOf.get(name) ?? []).map((at) => nodes[at]!));
  // Weights read by subgraphs, and model outputs, keep their names.
  const isBound =
    readers.some(({ input }) => !input.includes(name)) || indexes.some(({ outputs }) => outputs.has(name));
  if (isBound || readers.length === 0) return undefined;
  const isLookup = ({ opType, input }: NodeProto) => LOOKUPS.has(opType) && input[0] === name;
  return {
    name,
    handle,
    isTable: handle.dims.length === 2 && readers.some(isLookup),
    isFactor: readers.some((node) => PRODUCTS.has(node.opType) || (isLookup(node) && handle.dims.length > 2)),
  };
}

async function comparePair(
  original: TensorHandle,
  copy: TensorHandle,
  mayTranspose: boolean,
): Promise<'equal' | 'transposed' | undefined> {
  if (original.dataType !== copy.dataType) return undefined;
  if (await isEqualTensor(original, copy)) return 'equal';
  return mayTranspose && (await isTransposed(original, copy)) ? 'transposed' : undefined;
}

function replaceCopies(model: OnnxModel, pairs: readonly EqualPair[]): OnnxModel {
  const graph = model.proto.graph!;
  const [transposed, same] = [true, false].map((side) => pairs.filter(({ isTransposed }) => isTransposed === side));
  const names = new Map(same!.map(({ copy, original }) => [copy, original]));
  const copies = new Set(pairs.map(({ copy }) => copy));
  for (const node of graph.node) node.input = node.input.map((name) => names.get(name) ?? name);
  graph.node.unshift(
    ...transposed!.map(({ original, copy }) =>
      makeNode({
        op: 'Transpose',
        name: `${copy}/Transpose`,
        inputs: [original],
        outputs: [copy],
        attributes: { perm: [1, 0] },
      }),
    ),
  );
  graph.initializer = graph.initializer.filter(({ name }) => !copies.has(name));
  // Old models list weights among the inputs.
  graph.input = graph.input.filter(({ name }) => !copies.has(name));
  const weights = new Map([...model.weights].filter(([name]) => !copies.has(name)));
  return { ...model, weights };
}
