import type { NodeProto } from 'onnx-buf';
import type { GraphIndex } from './graph-index.js';

/** Operators that only rearrange or pick elements of one input. */
const VIEWS: ReadonlySet<string> = new Set([
  'Cast',
  'Expand',
  'Gather',
  'Identity',
  'Reshape',
  'Slice',
  'Split',
  'Squeeze',
  'Transpose',
  'Unsqueeze',
]);

/** Whether a node only rearranges or picks elements of an activation. */
export const isViewOf = ({ opType, input }: NodeProto, { constants }: Pick<GraphIndex, 'constants'>): boolean =>
  VIEWS.has(opType) && !constants.has(input[0] ?? '');
