import type { GraphProto, NodeProto, ValueInfoProto } from 'onnx-buf';
import { setIntAttribute } from '../onnx/attributes.js';
import { findDataType, INT64, UINT8 } from '../onnx/data-types.js';
import { setWeight } from '../onnx/edit-weights.js';
import type { OnnxModel, TensorHandle } from '../onnx/onnx-model.js';
import { sliceHandle } from '../onnx/slice-handle.js';
import { bytesHandle } from '../onnx/tensor-handle.js';
import { elementCount } from '../onnx/value.js';
import { freshName } from '../quantisation/dequantise-site.js';
import { sliceCodes } from '../quantisation/linear-codes.js';
import type { RenumberedIds } from './renumbered-ids.js';
import type { TokenConstant, TokenTable, VocabularyTrace } from './vocabulary-trace.js';

/** Removes the rows of removed tokens from a model, in place, without rounding. */
export function cutVocabulary(model: OnnxModel, trace: VocabularyTrace, ids: RenumberedIds): void {
  for (const table of trace.tables.values()) {
    const handle = model.weights.get(table.name)!;
    setWeight(model, table.name, cutTable(handle, table, ids));
  }
  for (const { node, attribute, rows } of trace.counted) setIntAttribute(node, attribute, ids.countBelow(rows));
  for (const constant of trace.constants)
    replaceConstant(
      model,
      constant,
      constant.values.map((value) => (value < 0 ? value : ids.countBelow(value))),
    );
  for (const literal of trace.literals)
    replaceConstant(model, literal, literal.values.with(literal.place, ids.countBelow(literal.values[literal.place]!)));
  for (const { scope, name, axis, rows } of trace.sized)
    for (const info of infosOf(scope.graph, name)) resize(info, { axis, rows, newRows: ids.countBelow(rows) });
}

/** Ids in constants of a graph; they remain. */
export function idsNamedByGraph({ constants }: VocabularyTrace): readonly number[] {
  return constants.flatMap(({ values }) => values.filter((value) => value >= 0));
}

function cutTable(handle: TensorHandle, { axis, rows }: TokenTable, { keep, countBelow }: RenumberedIds): TensorHandle {
  const remaining = keep.subarray(0, countBelow(rows));
  const dims = handle.dims[axis] === rows ? handle.dims.with(axis, remaining.length) : undefined;
  if (axis > 0) return withoutCut(sliceCodes(handle, axis, remaining), dims!);
  const width = elementCount(handle.dims) / rows;
  const shape = dims ?? [remaining.length * width];
  const { bits = 8 } = findDataType(handle.dataType) ?? {};
  if ((width * bits) % 8 !== 0) return withoutCut(sliceCodes({ ...handle, dims: [rows, width] }, 0, remaining), shape);
  const asBytes = { ...handle, dataType: UINT8, dims: [rows, (width * bits) / 8] };
  return { ...withoutCut(sliceHandle(asBytes, 0, remaining), shape), dataType: handle.dataType };
}

const withoutCut = ({ cut: _, ...handle }: TensorHandle, dims: readonly number[]): TensorHandle => ({
  ...handle,
  dims,
});

/** Replaces a constant of one node, since other nodes may read the old one. */
function replaceConstant(model: OnnxModel, { node, input, dataType, dims }: TokenConstant, values: readonly number[]) {
  const name = freshName(model, `${node.input[input]!}/trimmed`);
  const Integers = dataType === INT64 ? BigInt64Array.from(values, BigInt) : Int32Array.from(values);
  setWeight(model, name, bytesHandle({ dataType, dims }, new Uint8Array(Integers.buffer)));
  setInput(node, input, name);
}

const setInput = (node: NodeProto, input: number, name: string): void => {
  node.input[input] = name;
};

const infosOf = ({ output, valueInfo }: GraphProto, name: string): readonly ValueInfoProto[] =>
  [...output, ...valueInfo].filter((info) => info.name === name);

function resize(
  { type }: ValueInfoProto,
  { axis, rows, newRows }: { readonly axis: number; readonly rows: number; readonly newRows: number },
): void {
  const dims = type?.value.case === 'tensorType' ? (type.value.value.shape?.dim ?? []) : [];
  const dim = dims.at(axis);
  if (dim?.value.case === 'dimValue' && Number(dim.value.value) === rows)
    dim.value = { case: 'dimValue', value: BigInt(newRows) };
}
