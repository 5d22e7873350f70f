import { UnsupportedModelError } from '../errors.js';
import { encodeFloats, readFloat32 } from '../onnx/float-encoding.js';
import { describeShape } from '../onnx/tensor-handle.js';
import { type Tensor, typeOf } from '../runtime/engine.js';
import type { TrainedWeight } from './trained-weights.js';

/** Trained weights in one flat tensor: those of one block, or those shared by several. */
export interface WeightGroup {
  readonly weights: readonly PlacedWeight[];
  /** Total number of weights. */
  readonly count: number;
}

export interface PlacedWeight extends TrainedWeight {
  /** Offset in the group. */
  readonly offset: number;
}

/** One group for each span, and one for shared weights, each possibly empty. */
export interface WeightGroups {
  readonly all: readonly WeightGroup[];
  /** Index of the group of shared weights. */
  readonly shared: number;
  /** Indices of the groups that a span reads: its own, and the shared one if needed. */
  of(span: number): readonly number[];
}

/** Puts weights into groups. @throws UnsupportedModelError for a type that cannot be fed. */
export function groupWeights(weights: readonly TrainedWeight[], spanCount: number): WeightGroups {
  for (const { name, handle } of weights)
    if (typeOf(handle.dataType) === undefined)
      throw new UnsupportedModelError(
        `weight "${name}" is ${describeShape(handle)}, which cannot be a graph input; convert the model to float32 or float16`,
      );
  const ownOf = (span: number) => weights.filter(({ spans }) => spans.length === 1 && spans[0] === span);
  const shared = weights.filter(({ spans }) => spans.length > 1);
  const lists = [...Array.from({ length: spanCount }, (_, span) => ownOf(span)), shared];
  return {
    all: lists.map(placeWeights),
    shared: spanCount,
    of: (span) => (shared.some(({ spans }) => spans.includes(span)) ? [span, spanCount] : [span]),
  };
}

function placeWeights(weights: readonly TrainedWeight[]): WeightGroup {
  let count = 0;
  const placed = weights.map((weight) => {
    const offset = count;
    count += weight.count;
    return { ...weight, offset };
  });
  return { weights: placed, count };
}

/** The model's weights of a group, in float32. */
export async function readGroup({ weights, count }: WeightGroup): Promise<Float32Array> {
  const values = new Float32Array(count);
  for (const { handle, offset } of weights) values.set(await readFloat32(handle), offset);
  return values;
}

/** View of a weight in its group. */
export const sliceOf = (values: Float32Array, { offset, count }: PlacedWeight): Float32Array =>
  values.subarray(offset, offset + count);

/** Feed of a weight, in the model's data type. @param values Those of its group. */
export function feedOf(weight: PlacedWeight, values: Float32Array): Tensor {
  const { dataType, dims } = weight.handle;
  const data = sliceOf(values, weight);
  const type = typeOf(dataType);
  if (type === 'float32') return { type, dims, data };
  const { buffer } = encodeFloats(dataType, data);
  return type === 'float64'
    ? { type, dims, data: new Float64Array(buffer) }
    : { type: 'float16', dims, data: new Uint16Array(buffer) };
}
