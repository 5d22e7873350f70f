import type { NodeProto } from 'onnx-buf';
import type { AxisLabel } from './axis-rule.js';

/** A size of the first probe run before and after pruning. */
export interface Resize {
  readonly from: number;
  readonly to: number;
}

/** Keeps an entry. */
export const SAME: Resize = { from: 1, to: 1 };

/** A node of a pruned module. Dims and contents are those of the dense graph. */
export interface UpdateSite {
  readonly node: NodeProto;
  /** Remaining units and KV groups; without groups the counts are equal. */
  readonly unitCount: number;
  readonly groupCount: number;
  /** Whether several query heads share a KV head. */
  readonly isGrouped: boolean;
  /** Empty where they are not known. */
  dims(value: string): readonly number[];
  /** @throws UnsupportedModelError when they are not known. */
  ints(value: string): readonly number[];
  isConstant(value: string): boolean;
  /** Label of a value that carries units. */
  labelOf(value: string): AxisLabel | undefined;
  /** Positions of a labelled axis that remain, ascending. */
  remainingPositions(label: AxisLabel): Int32Array;
  /** Axes of a value that shrink. */
  resizes(value: string): ReadonlyMap<number, Resize>;
  /** Checks that an axis has a fixed size, so that positions along it are meaningful. @throws UnsupportedModelError */
  checkFixed(value: string, axis: number): void;
  /** Resizes entries of an integer input, constant or computed. */
  resizeEntries(slot: number, entries: ReadonlyMap<number, Resize>): void;
  /** Puts a constant into an integer input. */
  setInts(slot: number, values: readonly number[]): void;
  /** Multiplies the first output elementwise by ratios, for the nodes that `reads` selects. */
  scaleOutput(ratios: readonly Resize[], reads: (reader: NodeProto) => boolean): void;
}

/** Updates the attributes and constants of a node for pruned axes. @throws UnsupportedModelError */
export type UpdateRule = (site: UpdateSite) => void;

/** Updates input 1 with sizes of the output's last axes; `isSize` selects the entries to change. */
export const updateSizes =
  (isSize: (entry: number) => boolean): UpdateRule =>
  ({ node, ints, dims, resizes, resizeEntries }) => {
    const entries = ints(node.input[1] ?? '');
    const [output = ''] = node.output;
    const shift = dims(output).length - entries.length;
    const resized = [...resizes(output)].map(([axis, resize]) => [axis - shift, resize] as const);
    resizeEntries(1, new Map(resized.filter(([at]) => entries[at] !== undefined && isSize(entries[at]))));
  };
