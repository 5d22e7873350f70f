import type { NodeProto } from 'onnx-buf';
import type { AxisLabel } from './axis-rule.js';

/** A size before and after the cut, as the first probe run saw it. */
export interface Resize {
  readonly from: number;
  readonly to: number;
}

/** Leaves an entry as it is. */
export const SAME: Resize = { from: 1, to: 1 };

/** A node of a module that loses units. Dims and contents are those of the dense graph. */
export interface MendSite {
  readonly node: NodeProto;
  /** Units that remain, and KV groups; without groups as many as units. */
  readonly unitCount: number;
  readonly groupCount: number;
  /** Whether several query heads share a KV head. */
  readonly isGrouped: boolean;
  /** Empty where they are not known. */
  dims(value: string): readonly number[];
  /** @throws UnsupportedModelError when they are not known. */
  ints(value: string): readonly number[];
  isConstant(value: string): boolean;
  /** Where the units lie in a value that carries them. */
  labelOf(value: string): AxisLabel | undefined;
  /** Positions of a labelled axis that remain, ascending. */
  remainingPositions(label: AxisLabel): Int32Array;
  /** Axes of a value that shrink. */
  resizes(value: string): ReadonlyMap<number, Resize>;
  /** Positions along an axis mean something only while its size does not follow the input. @throws UnsupportedModelError */
  checkFixed(value: string, axis: number): void;
  /** Resizes entries of an integer input, whatever computes it. */
  resizeEntries(slot: number, entries: ReadonlyMap<number, Resize>): void;
  /** Puts a constant into an integer input. */
  setInts(slot: number, values: readonly number[]): void;
  /** Multiplies the first output by ratios, entry by entry, where `reads` says that a node reads it. */
  scaleOutput(ratios: readonly Resize[], reads: (reader: NodeProto) => boolean): void;
}

/** Mends what a node says in numbers about axes that shrink. @throws UnsupportedModelError */
export type MendRule = (site: MendSite) => void;

/** Mends input 1, which spells sizes or counts of the output's last axes out; `speaks` says which entries speak of one. */
export const mendSizes =
  (speaks: (entry: number) => boolean): MendRule =>
  ({ node, ints, dims, resizes, resizeEntries }) => {
    const entries = ints(node.input[1] ?? '');
    const [output = ''] = node.output;
    const shift = dims(output).length - entries.length;
    const resized = [...resizes(output)].map(([axis, resize]) => [axis - shift, resize] as const);
    resizeEntries(1, new Map(resized.filter(([at]) => entries[at] !== undefined && speaks(entries[at]))));
  };
