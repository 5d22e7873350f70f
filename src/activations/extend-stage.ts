import type { TensorProto } from 'onnx-buf';
import { makeFloatInitializer } from '../onnx/build.js';
import { FLOAT32 } from '../onnx/data-types.js';
import { createNodeEmitter } from '../onnx/node-emitter.js';
import { createTensorOps, type TensorOps } from '../onnx/tensor-ops.js';
import type { Value } from '../onnx/value.js';
import { OPEN } from '../onnx/value-facts.js';
import type { StageExtension } from '../runtime/compile-stage.js';
import type { TensorType } from '../runtime/engine.js';

/** Meters are added to graphs of any opset, so they use only operators unchanged since this one. */
const OPSET = 11;

/** Operators for meters: those of gradient rules, and inputs from values of the stage. */
export interface StageOps extends TensorOps {
  /** A value of the stage, with dynamic dims. */
  value(name: string): Value;
  /** A graph input of the meter, to be fed at each run. */
  input(name: string, dims: readonly number[], type?: TensorType): Value;
  /** A constant of the meter, row-major. */
  tensor(name: string, dims: readonly number[], values: ArrayLike<number>): Value;
  /** A value in single precision. */
  float(x: Value): Value;
  /** Flattens all axes but the last, which has the given channels. */
  rows(x: Value, channelCount: number): Value;
  /** Reshapes to the dims in another value: int64, one for each axis. */
  reshapeTo(x: Value, dims: Value): Value;
  /** Some rows of a matrix. */
  pickRows(x: Value, rows: readonly number[]): Value;
  /** Sums over the channels, `[tokens, 1]`: a product with ones, since the form of ReduceSum depends on the opset. */
  sumChannels(x: Value): Value;
}

/** A meter's part of a stage. */
export interface Extended<Name extends string> extends Pick<StageExtension, 'nodes' | 'initializers' | 'inputs'> {
  /** Names of the new values and inputs by role. */
  readonly names: Readonly<Record<Name, string>>;
}

/**
 * Builds the nodes that a meter adds to a stage.
 * @param prefix Prefix of all names, unique on the stage.
 * @param build Builds the values; nodes that they do not depend on are dropped.
 */
export function extendStage<Name extends string>(
  prefix: string,
  build: (o: StageOps) => Readonly<Record<Name, Value>>,
): Extended<Name> {
  const emitter = createNodeEmitter(`${prefix}/`);
  const inputs: { readonly name: string; readonly type: TensorType }[] = [];
  const tensors: TensorProto[] = [];
  const ops = createTensorOps(emitter, OPSET);
  const values = build({
    ...ops,
    value: (name) => ({ name, dims: [OPEN], dataType: FLOAT32 }),
    input(role, dims, type = 'float32') {
      const name = `${prefix}/${role}`;
      inputs.push({ name, type });
      return { name, dims, dataType: FLOAT32 };
    },
    tensor(role, dims, numbers) {
      const name = `${prefix}/${role}`;
      tensors.push(makeFloatInitializer(name, dims, numbers));
      return { name, dims, dataType: FLOAT32 };
    },
    float: (x) => emitter.node('Cast', [x], { dims: x.dims, dataType: FLOAT32, attributes: { to: FLOAT32 } }),
    rows: (x, channelCount) =>
      emitter.node('Reshape', [x, ops.ints([OPEN, channelCount])], { dims: [OPEN, channelCount], dataType: FLOAT32 }),
    reshapeTo: (x, dims) =>
      emitter.node('Reshape', [x, dims], { dims: new Array<number>(dims.dims[0] ?? 0).fill(OPEN), dataType: FLOAT32 }),
    pickRows: (x, rows) =>
      emitter.node('Gather', [x, ops.ints(rows)], { ...x, dims: [rows.length, x.dims[1]!], attributes: { axis: 0 } }),
    sumChannels(x) {
      const channelCount = x.dims.at(-1)!;
      return ops.matMul(x, emitter.constant(FLOAT32, [channelCount, 1], new Array<number>(channelCount).fill(1)));
    },
  });
  const names = Object.fromEntries(Object.entries<Value>(values).map(([key, { name }]) => [key, name]));
  const { nodes, initializers } = emitter.finish(Object.values(names));
  return { nodes, initializers: [...initializers, ...tensors], inputs, names: names as Record<Name, string> };
}
