/** A data-dependent dim or size, such as the number of selected positions of a mask. */
export const OPEN = -1;

/** Shape, type and small contents of a value in a run with a given batch and window. */
export interface ValueFact {
  /** Concrete dims of that run; `OPEN` where they cannot be extrapolated. */
  readonly dims: readonly number[];
  /** ONNX `TensorProto.DataType` number. */
  readonly dataType: number;
  /** Contents of small integer tensors: shapes, axes, starts, split sizes. */
  readonly ints?: readonly number[];
}

/** Facts by value name, initializers included. */
export type ValueFacts = ReadonlyMap<string, ValueFact>;

/** Facts of two runs that differ in batch and window, which distinguishes constants from sizes of the input. */
export interface TwoRunFacts {
  readonly first: ValueFacts;
  readonly second: ValueFacts;
  /** Values whose sizes are step functions of the window, see `findSteppedSizes`. Default none. */
  readonly stepped?: ReadonlySet<string>;
}
