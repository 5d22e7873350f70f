import { ModelFormatError, UnsupportedModelError } from '../errors.js';
import { findDataType } from '../onnx/data-types.js';
import type { TensorHandle } from '../onnx/onnx-model.js';

/** What turns linear codes into numbers: `(code - zero point) scale`. */
export interface LinearScales {
  /** What messages call the codes. Default `a weight`. */
  readonly name?: string;
  readonly scales: Float32Array;
  /** Codes of the scales' shape, or one for all; absent: zero. */
  readonly zero: TensorHandle | undefined;
  /** Axis along which scales change, counted from the front; of no use for a single scale. */
  readonly axis: number;
  /** Indices of the axis that share a scale; 0: every index has its own. */
  readonly blockSize: number;
}

/**
 * Numbers that linear codes stand for, row-major: one scale in all, one for each index of an axis, or one for each block of it.
 * @see ONNX's DequantizeLinear
 * @throws UnsupportedModelError for codes that are no whole numbers of 4 or 8 bits; ModelFormatError where scales are NaN,
 * infinite or 0, or they and the zero points are too few or too many for the codes.
 */
export async function readLinearCodes(
  codes: TensorHandle,
  { name = 'a weight', scales, zero, axis, blockSize }: LinearScales,
): Promise<Float32Array> {
  const { dims } = codes;
  const count = countOf(codes);
  const numbers = await readWholeNumbers(codes, count);
  const zeros = zero === undefined ? [0] : await readWholeNumbers(zero, countOf(zero));
  const inner = dims.slice(axis + 1).reduce((product, dim) => product * dim, 1);
  const along = dims[axis] ?? 1;
  const shared = blockSize > 0 ? blockSize : 1;
  const steps = Math.ceil(along / shared);
  checkScales(name, dims, scales);
  const expected = blockSize > 0 ? steps * (count / along) : along;
  for (const [what, found] of [['scales', scales.length] as const, ['zero points', zeros.length] as const]) {
    if (found === 1 || found === expected) continue;
    throw new ModelFormatError(
      `${name} of dims [${dims}] has ${found} ${what} beside them, expected ${expected} along axis ${axis}${blockSize > 0 ? ` in blocks of ${blockSize}` : ''}. Get the file again.`,
    );
  }
  const values = new Float32Array(count);
  for (let at = 0; at < count; at += 1) {
    let place = 0;
    if (scales.length > 1) {
      const step = Math.floor((Math.floor(at / inner) % along) / shared);
      place = blockSize > 0 ? (Math.floor(at / (inner * along)) * steps + step) * inner + (at % inner) : step;
    }
    values[at] = (numbers[at]! - zeros[zeros.length > 1 ? place : 0]!) * scales[place]!;
  }
  return values;
}

function checkScales(name: string, dims: readonly number[], scales: Float32Array): void {
  const broken = scales.findIndex((value) => !Number.isFinite(value) || value === 0);
  if (broken < 0) return;
  throw new ModelFormatError(
    `scale ${broken} of ${name} of dims [${dims}] is ${scales[broken]}; expected a finite number other than 0. Get the file again.`,
  );
}

const countOf = ({ dims }: TensorHandle): number => dims.reduce((product, dim) => product * dim, 1);

async function readWholeNumbers(handle: TensorHandle, count: number): Promise<ArrayLike<number>> {
  const bytes = await handle.read();
  const { name = `data type ${handle.dataType}` } = findDataType(handle.dataType) ?? {};
  if (name === 'uint8') return bytes;
  if (name === 'int8') return new Int8Array(bytes.buffer);
  if (name === 'int32') return new Int32Array(bytes.buffer);
  if (name !== 'uint4' && name !== 'int4')
    throw new UnsupportedModelError(`codes of ${name} cannot be read; whole numbers of 4 or 8 bits can`);
  return Int8Array.from({ length: count }, (_, at) => {
    const code = (bytes[at >> 1]! >> (4 * (at % 2))) & 15;
    return name === 'int4' && code > 7 ? code - 16 : code;
  });
}
