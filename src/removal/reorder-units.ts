import type { DetectedModel } from '../architecture/detect-layout.js';
import { setWeight } from '../onnx/edit-weights.js';
import type { OnnxModel } from '../onnx/onnx-model.js';
import { sliceHandle } from '../onnx/slice-handle.js';

/** A module of a layout, and its new order of units: `order[i]` is the old index of unit i. */
export interface UnitOrder {
  readonly module: number;
  readonly order: Int32Array;
}

/** New order of a weight's axis. */
export interface MovedAxis {
  readonly axis: number;
  /** Old index, by new index. */
  readonly from: Int32Array;
}

/**
 * Reorders the units of a module in its weights and biases, in place, so that its results are unchanged.
 * @returns Reordered axes by weight; empty, without a change, if the module reads another value with units, or another node its weights.
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

/** A unit may have several places (of gate and up in one weight): the first of one is replaced by the first of another, and so on. */
function movedPositions(unitIds: Int32Array, order: Int32Array): Int32Array {
  const places = new Map<number, number[]>();
  for (const [at, unit] of unitIds.entries()) {
    const known = places.get(unit) ?? [];
    places.set(unit, known);
    known.push(at);
  }
  const usedCount = new Map<number, number>();
  return unitIds.map((unit, at) => {
    if (unit < 0) return at;
    const count = usedCount.get(unit) ?? 0;
    usedCount.set(unit, count + 1);
    return places.get(order[unit]!)![count]!;
  });
}

/** Inverse permutation. */
export function inverseOrder(from: Int32Array): Int32Array {
  const inverse = new Int32Array(from.length);
  for (const [at, old] of from.entries()) inverse[old] = at;
  return inverse;
}
