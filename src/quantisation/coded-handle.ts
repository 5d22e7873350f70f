import type { TensorHandle } from '../onnx/onnx-model.js';
import type { BlockGrid } from './block-codes.js';
import type { StoredCodes } from './store-codes.js';

/** A weight that stands for codes, or that codes of a grid were made of. */
export interface CodedHandle extends TensorHandle {
  readonly coded: {
    readonly grid: BlockGrid;
    /** Absent where the weight is not exactly what codes stand for. */
    readonly stored?: StoredCodes;
    readonly inputAxis: 0 | 1;
  };
}

/** The codes that a weight stands for; undefined for plain floats. */
export const codesBehind = (handle: TensorHandle | undefined): CodedHandle['coded'] | undefined =>
  handle !== undefined && 'coded' in handle ? (handle as CodedHandle).coded : undefined;
