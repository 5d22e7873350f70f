import type { NodeProto } from 'onnx-buf';
import type { GraphIndex } from './graph-index.js';

/** Operators that hand elements of one input on as they are. */
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

/** Whether a node hands elements of an activation on as they are. */
export const isViewOf = ({ opType, input }: NodeProto, { constants }: Pick<GraphIndex, 'constants'>): boolean =>
  VIEWS.has(opType) && !constants.has(input[0] ?? '');
