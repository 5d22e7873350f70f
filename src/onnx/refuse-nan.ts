import type { GraphProto } from 'onnx-buf';
import { NumericalError } from '../errors.js';
import type { OnnxModel, TensorHandle } from './onnx-model.js';
import { describeShape } from './tensor-handle.js';

/** Encoding of NaN in a type: magnitudes above infinity. */
interface NaNForm {
  readonly Words: typeof Uint16Array | typeof Uint32Array;
  readonly magnitude: number;
  readonly infinity: number;
}

/** By `TensorProto.DataType` number: float, float16, bfloat16. */
const NAN_FORMS: Readonly<Record<number, NaNForm>> = {
  1: { Words: Uint32Array, magnitude: 0x7fffffff, infinity: 0x7f800000 },
  10: { Words: Uint16Array, magnitude: 0x7fff, infinity: 0x7c00 },
  16: { Words: Uint16Array, magnitude: 0x7fff, infinity: 0x7f80 },
};

/**
 * The model with weights that are checked for NaN when they are read, those of linear layers for infinity too; otherwise methods
 * that read no tokens would write them into the result. Reading throws a NumericalError that names the weight.
 */
export function refuseNaN(model: OnnxModel): OnnxModel {
  const multiplied = findMultiplied(model.proto.graph);
  const watch = (name: string, handle: TensorHandle) =>
    refuseElements(handle, {
      // Masks contain infinity.
      allowInfinity: !multiplied.has(name),
      fail: (position, value) =>
        new NumericalError(
          `the weight "${name}", ${describeShape(handle)}, contains ${value} at position ${position}; get the model again, or export it again`,
        ),
    });
  return { ...model, weights: new Map([...model.weights].map(([name, handle]) => [name, watch(name, handle)])) };
}

const PRODUCTS: ReadonlySet<string> = new Set(['MatMul', 'Gemm', 'FusedMatMul', 'MatMulNBits', 'Conv']);
const VIEWS: ReadonlySet<string> = new Set(['Transpose', 'Cast', 'Identity', 'DequantizeLinear']);

/** Names of values that linear layers multiply by, also before a transposition or conversion. */
function findMultiplied(graph: GraphProto | undefined): ReadonlySet<string> {
  const found = new Set<string>();
  for (const { opType, input, output } of [...(graph?.node ?? [])].reverse())
    if (PRODUCTS.has(opType) || (VIEWS.has(opType) && found.has(output[0]!))) for (const name of input) found.add(name);
  return found;
}

interface Refusal {
  readonly allowInfinity: boolean;
  /** @param position of the first element that is refused */
  readonly fail: (position: number, value: 'NaN' | 'Infinity') => Error;
}

/** The tensor with floats that are checked when they are read: NaN, and optionally infinity, throws an error. */
export function refuseElements(handle: TensorHandle, { allowInfinity, fail }: Refusal): TensorHandle {
  const form = NAN_FORMS[handle.dataType];
  if (form === undefined) return handle;
  const most = allowInfinity ? form.infinity : form.infinity - 1;
  let isChecked = false;
  return {
    ...handle,
    async read(range) {
      const bytes = await handle.read(range);
      if (isChecked) return bytes;
      const found = findAbove(most, bytes, form);
      if (found !== undefined) {
        const start = Math.floor((range?.offset ?? 0) / form.Words.BYTES_PER_ELEMENT);
        throw fail(start + found.at, found.value);
      }
      isChecked = bytes.byteLength === handle.byteLength;
      return bytes;
    },
  };
}

/** The first complete element of a larger magnitude. The bytes begin with an element. */
function findAbove(
  most: number,
  bytes: Uint8Array<ArrayBuffer>,
  { Words, magnitude, infinity }: NaNForm,
): { readonly at: number; readonly value: 'NaN' | 'Infinity' } | undefined {
  const isAligned = bytes.byteOffset % Words.BYTES_PER_ELEMENT === 0;
  const { buffer, byteOffset, byteLength } = isAligned ? bytes : bytes.slice();
  const words = new Words(buffer, byteOffset, Math.floor(byteLength / Words.BYTES_PER_ELEMENT));
  for (let at = 0; at < words.length; at++) {
    const found = words[at]! & magnitude;
    if (found > most) return { at, value: found > infinity ? 'NaN' : 'Infinity' };
  }
  return undefined;
}
