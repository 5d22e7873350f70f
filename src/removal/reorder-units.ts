import type { DetectedModel } from '../architecture/detect-layout.js';
import { setWeight } from '../onnx/edit-weights.js';
import type { OnnxModel } from '../onnx/onnx-model.js';
import { sliceHandle } from '../onnx/slice-handle.js';

/** A module of a layout, and the units that come in the place of each of its units. */
export interface UnitOrder {
  readonly module: number;
  readonly order: Int32Array;
}

/** Where the indices of a weight's axis lay before. */
export interface MovedAxis {
  readonly axis: number;
  /** By index: the one that it was. */
  readonly from: Int32Array;
}

/**
 * Puts the units of a module in another order, in place: weights and biases alike, so that the module computes the same.
 * @returns what moved, by the names of weights; none where the module reads anything else that has units, or others read its weights
 */
export function reorderUnits(
  model: OnnxModel,
  { traces, index }: Pick<DetectedModel, 'traces' | 'index'>,
  { module, order }: UnitOrder,
): ReadonlyMap<string, MovedAxis> {
  const { external, labels, nodes } = traces[module]!;
  const own = new Set(nodes);
  const isOwn = (value: string): boolean =>
    model.weights.has(value) && (index.consumersOf.get(value) ?? []).every((at) => own.has(at));
  const moved = new Map<string, MovedAxis>();
  if (![...external].every(isOwn)) return moved;
  for (const value of external) {
    const { axis, unitIds } = labels.get(value)!;
    const from = movedPositions(unitIds, order);
    setWeight(model, value, sliceHandle(model.weights.get(value)!, axis, from));
    moved.set(value, { axis, from });
  }
  return moved;
}

/** A unit may have several places (of gate and up in one weight): the first of each goes to the first of another, and so on. */
function movedPositions(unitIds: Int32Array, order: Int32Array): Int32Array {
  const places = new Map<number, number[]>();
  for (const [at, unit] of unitIds.entries()) {
    const known = places.get(unit) ?? [];
    places.set(unit, known);
    known.push(at);
  }
  const taken = new Map<number, number>();
  return unitIds.map((unit, at) => {
    if (unit < 0) return at;
    const count = taken.get(unit) ?? 0;
    taken.set(unit, count + 1);
    return places.get(order[unit]!)![count]!;
  });
}

/** The order that undoes another. */
export function inverseOrder(from: Int32Array): Int32Array {
  const inverse = new Int32Array(from.length);
  for (const [at, was] of from.entries()) inverse[was] = at;
  return inverse;
}
