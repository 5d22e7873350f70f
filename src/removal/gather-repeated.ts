import type { NodeProto } from 'onnx-buf';
import { opsetOf } from '../onnx/opset-of.js';
import type { AxisLabel } from '../operators/axis-rule.js';
import type { GraphEditor } from './graph-editor.js';
import { type RemainingUnits, remainingPositions } from './remaining-positions.js';

/**
 * Period of the unit ids along an axis whose size depends on the input, such as the heads in batch x heads; `undefined`
 * when they do not repeat in every run.
 * @param secondSize Size of the axis in a run with another batch and window.
 */
export function repeatedPeriod({ unitIds }: AxisLabel, secondSize: number): number | undefined {
  const periods = Array.from({ length: unitIds.length }, (_, at) => at + 1);
  const fits = (period: number): boolean =>
    unitIds.length % period === 0 && unitIds.every((code, at) => code === unitIds[at % period]);
  const period = periods.find(fits);
  return period !== undefined && period < unitIds.length && secondSize % period === 0 ? period : undefined;
}

export interface RepeatedGather {
  readonly value: string;
  readonly rank: number;
  readonly label: AxisLabel;
  readonly period: number;
  readonly remaining: RemainingUnits;
}

/**
 * Gathers the remaining positions of every period of an axis of any length: `[.., n * period, ..]` is reshaped to
 * `[.., n, period, ..]`, gathered, and flattened again, by nodes before `before`.
 * @returns Name of the result.
 */
export function gatherRepeated(editor: GraphEditor, request: RepeatedGather, before: NodeProto): string {
  const { value, rank, label, period, remaining } = request;
  const { axis, unitIds } = label;
  const positions = remainingPositions({ axis, unitIds: unitIds.slice(0, period) }, remaining);
  // A Reshape entry of 0 copies the size at the same index, so an inserted axis of 1 lets later axes keep theirs.
  const shape = (...middle: readonly number[]): string =>
    editor.addInts([...new Array(axis).fill(0), ...middle, ...new Array(rank - axis - 1).fill(0)]);
  const insert = (op: string, inputs: readonly string[], attributes = {}): string => {
    const result = editor.freshName(`${value}/pruned_${op.toLowerCase()}`);
    editor.insertBefore(before, { op, inputs, outputs: [result], attributes });
    return result;
  };
  const changeRank = (op: string, source: string): string =>
    opsetOf(editor.model.proto) < AXES_AS_INPUT
      ? insert(op, [source], { axes: [axis + 1] })
      : insert(op, [source, editor.addInts([axis + 1])]);
  const unfolded = insert('Reshape', [changeRank('Unsqueeze', value), shape(-1, period)]);
  const gathered = insert('Gather', [unfolded, editor.addInts([...positions])], { axis: axis + 1 });
  return changeRank('Squeeze', insert('Reshape', [gathered, shape(-1, 1)]));
}

/** From this opset on, the axes of Unsqueeze and Squeeze are an input. */
const AXES_AS_INPUT = 13;
