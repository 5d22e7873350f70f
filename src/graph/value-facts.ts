/** A dim, or a size in a shape, that follows what a model computes and not its input: places that a mask picks. */
export const OPEN = -1;

/** Facts about a value from one run with a chosen batch and window. */
export interface ValueFact {
  /** Concrete dims of that run; `OPEN` where they are extrapolated for one that was not made. */
  readonly dims: readonly number[];
  /** ONNX `TensorProto.DataType` number. */
  readonly dataType: number;
  /** Contents of small integer tensors: shapes, axes, starts, split sizes. */
  readonly ints?: readonly number[];
}

/** Facts by value name, initializers included. */
export type ValueFacts = ReadonlyMap<string, ValueFact>;

/** Facts of two runs that differ in batch and window, so that constants can be told from what follows the input. */
export interface TwoRunFacts {
  readonly first: ValueFacts;
  readonly second: ValueFacts;
  /** Values whose sizes they do not tell, since these follow the window in steps. Default none. */
  readonly stepped?: ReadonlySet<string>;
}
