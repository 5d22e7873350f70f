import { UnsupportedModelError } from '../errors.js';
import { decodeFloats } from '../onnx/float-encoding.js';
import { dataTypeOf, type Tensor } from './engine.js';

/**
 * A tensor as float32; not copied if it is float32.
 * @param what name for messages, in the plural
 * @throws UnsupportedModelError for a type other than float32 and float16.
 */
export function tensorFloats({ type, data }: Tensor, what: string): Float32Array {
  if (type === 'float32') return data;
  if (type !== 'float16') throw new UnsupportedModelError(`${what} are ${type}, expected float32 or float16`);
  return decodeFloats(dataTypeOf(type), new Uint8Array(data.slice().buffer));
}
