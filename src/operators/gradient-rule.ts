import type { NodeProto } from 'onnx-buf';
import { UnsupportedModelError } from '../errors.js';
import { nodeLabel } from '../onnx/graph-index.js';
import type { TensorOps } from '../onnx/tensor-ops.js';
import type { Value } from '../onnx/value.js';
import { OPEN } from '../onnx/value-facts.js';

/**
 * A cotangent that is zero outside a window of one axis, such as the gradient of a slice. Windows that do not overlap
 * are concatenated instead of padded and added.
 */
export interface WindowCotangent {
  readonly axis: number;
  readonly start: number;
  readonly window: Value;
}

/** Gradient of the loss with respect to one input. Broadcasting, in either direction, is undone by the driver. */
export type Cotangent = Value | WindowCotangent | readonly WindowCotangent[];

/** The node that a lowering replaces, with its inputs. */
export interface LoweringContext {
  readonly node: NodeProto;
  readonly o: TensorOps;
  /** Whether an optional input is present. */
  has(input: number): boolean;
  /** @throws UnsupportedModelError when the input is absent. */
  input(input: number): Value;
}

/** The node that a rule differentiates, with values and cotangents. Half-precision values are cast to float32. */
export interface RuleContext extends LoweringContext {
  /** Version of ONNX's own operators in the graph. */
  readonly opset: number;
  /** Cotangent of the first output, with that output's dims. @throws UnsupportedModelError when only another output has one. */
  readonly g: Value;
  /** Cotangent of an output, or undefined when the loss does not depend on it. */
  cotangent(output: number): Value | undefined;
  output(output: number): Value;
  /** Whether the gradient of this input is needed; rules may skip work for the others. */
  wants(input: number): boolean;
  /** Contents of a constant integer input. @throws UnsupportedModelError when they are unknown. */
  ints(input: number): readonly number[];
  /** The same, or undefined when they are unknown. */
  knownInts(input: number): readonly number[] | undefined;
  /** Forward node that computes an input, or undefined for graph inputs and initializers. */
  producer(input: number): NodeProto | undefined;
  /** Value of a constant one-element float input, or undefined when it is computed. */
  constant(input: number): number | undefined;
}

/** Vector-Jacobian product of one operator: cotangents of the inputs, in order; missing entries mean no gradient. */
export type VjpRule = (context: RuleContext) => readonly (Cotangent | undefined)[];

/** Replaces a node by simpler operators, which are run or differentiated; returns the outputs in order. */
export type Lowering = (context: LoweringContext) => readonly (Value | undefined)[];

/** Error for a form of an operator that its rule does not cover. */
export function unsupported(node: NodeProto, reason: string): UnsupportedModelError {
  return new UnsupportedModelError(`No gradient for ${nodeLabel(node)}: ${reason}`);
}

/** @throws UnsupportedModelError when an input is a past that is not empty; one of open size is accepted. */
export function refusePast(c: LoweringContext, inputs: readonly number[]): void {
  for (const input of inputs) {
    if (!c.has(input) || c.input(input).dims.some((dim) => dim === 0 || dim === OPEN)) continue;
    throw unsupported(
      c.node,
      `its past, or a length per window, has dims [${c.input(input).dims}]; gradients need runs without past.`,
    );
  }
}
