import { UnsupportedModelError } from '../errors.js';
import { readFloat32 } from '../onnx/float-encoding.js';
import type { TensorHandle } from '../onnx/onnx-model.js';
import { findEmbeddings } from '../onnx/partition.js';
import { sliceHandle } from '../onnx/slice-handle.js';
import type { AnalysedModel, UnderstoodModel } from '../runtime/analyse-model.js';
import { indexRunGraph } from '../runtime/block-runner.js';

/** Number of compared rows of the embedding tables. */
const ROWS = 64;

/** Largest relative difference: another precision is far below, another model far above. */
const MAX_DIFFERENCE = 0.1;

/**
 * Checks that a pruned model can come from a dense one: equal sizes except for widths, and equal token embeddings,
 * which neither pruning nor healing changes.
 * @throws UnsupportedModelError naming what differs.
 */
export async function checkSameBase(dense: UnderstoodModel, pruned: UnderstoodModel): Promise<void> {
  checkSizes(dense.analysed, pruned.analysed);
  const difference = await compareEmbeddings(dense, pruned);
  if (difference > MAX_DIFFERENCE)
    throw new UnsupportedModelError(
      `the token embeddings of the pruned model differ from those of the dense one by ${difference.toPrecision(2)} of their size; give the model that it was pruned from`,
    );
}

function checkSizes({ detected: { layout: dense } }: AnalysedModel, { detected: { layout: pruned } }: AnalysedModel) {
  for (const size of ['blockCount', 'hiddenSize', 'vocabularySize'] as const)
    if (dense[size] !== pruned[size])
      throw new UnsupportedModelError(
        `the pruned model has a ${size} of ${pruned[size]}, the dense one of ${dense[size]}; give the model that it was pruned from`,
      );
  for (const module of pruned.modules) {
    const { block, kind, unitCount } = module;
    const origin = dense.modules.find((other) => other.block === block && other.kind === kind);
    if (origin === undefined || origin.unitCount < unitCount)
      throw new UnsupportedModelError(
        `block ${block} ${kind} of the pruned model has ${unitCount} units, that of the dense one ${origin?.unitCount ?? 'none'}; give the model that it was pruned from`,
      );
  }
}

/** Root mean square of the difference, relative to the dense model's; 0 where the tables are missing or have different shapes. */
async function compareEmbeddings(dense: UnderstoodModel, pruned: UnderstoodModel): Promise<number> {
  const [first, second] = [tableOf(dense), tableOf(pruned)];
  if (first === undefined || second === undefined || String(first.dims) !== String(second.dims)) return 0;
  const [expected, found] = [await readMiddle(first), await readMiddle(second)];
  let [size, difference] = [0, 0];
  for (let at = 0; at < expected.length; at += 1) {
    size += expected[at]! ** 2;
    difference += (expected[at]! - found[at]!) ** 2;
  }
  return size === 0 ? 0 : Math.sqrt(difference / size);
}

function tableOf({ model, analysed: { tokenInput } }: UnderstoodModel): TensorHandle | undefined {
  const index = indexRunGraph(model);
  const tables = findEmbeddings(index, tokenInput).map((at) => model.weights.get(index.nodes[at]!.input[0] ?? ''));
  return tables.find((handle) => handle?.dims.length === 2);
}

/** Reads middle rows: the first rows may belong to unused tokens, which are equal in different models. */
function readMiddle(table: TensorHandle): Promise<Float32Array> {
  const count = Math.min(ROWS, table.dims[0]!);
  const first = Math.floor((table.dims[0]! - count) / 2);
  const rows = Int32Array.from({ length: count }, (_, at) => first + at);
  return readFloat32(sliceHandle(table, 0, rows));
}
