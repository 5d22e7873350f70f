import { NumericalError } from '../errors.js';
import type { OnnxModel, TensorHandle } from './onnx-model.js';
import { describeShape } from './tensor-handle.js';

/** Encoding of NaN in a type: magnitudes above infinity. Infinity is accepted, since masks contain it. */
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
 * The model with weights that are checked for NaN when they are read; otherwise methods that read no tokens would write
 * NaN into the result. Reading throws a NumericalError that names the weight.
 */
export function refuseNaN(model: OnnxModel): OnnxModel {
  const weights = new Map([...model.weights].map(([name, handle]) => [name, refuseNaNIn(name, handle)]));
  return { ...model, weights };
}

function refuseNaNIn(name: string, handle: TensorHandle): TensorHandle {
  return refuseElements(handle, {
    allowInfinity: true,
    fail: (position) =>
      new NumericalError(
        `the weight "${name}", ${describeShape(handle)}, holds NaN at position ${position}; get the model again, or export it again`,
      ),
  });
}

interface Refusal {
  readonly allowInfinity: boolean;
  /** @param position of the first element that is refused */
  readonly fail: (position: number) => Error;
}

/** The tensor with floats that are checked when they are read: NaN, and optionally infinity, throws an error. */
export function refuseElements(handle: TensorHandle, { allowInfinity, fail }: Refusal): TensorHandle {
  const form = NAN_FORMS[handle.dataType];
  if (form === undefined) return handle;
  const most = allowInfinity ? form.infinity : form.infinity - 1;
  let isKnownSound = false;
  return {
    ...handle,
    async read(range) {
      const bytes = await handle.read(range);
      if (isKnownSound) return bytes;
      const at = findAbove(most, bytes, form);
      if (at >= 0) throw fail(Math.floor((range?.offset ?? 0) / form.Words.BYTES_PER_ELEMENT) + at);
      isKnownSound = bytes.byteLength === handle.byteLength;
      return bytes;
    },
  };
}

/** Position of the first complete element of a larger magnitude, or -1. The bytes begin with an element. */
function findAbove(most: number, bytes: Uint8Array<ArrayBuffer>, { Words, magnitude }: NaNForm): number {
  const isAligned = bytes.byteOffset % Words.BYTES_PER_ELEMENT === 0;
  const { buffer, byteOffset, byteLength } = isAligned ? bytes : bytes.slice();
  const words = new Words(buffer, byteOffset, Math.floor(byteLength / Words.BYTES_PER_ELEMENT));
  for (let i = 0; i < words.length; i++) if ((words[i]! & magnitude) > most) return i;
  return -1;
}
