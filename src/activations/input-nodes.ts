import type { PrunableModule } from '../architecture/layout.js';
import { makeFloatInitializer, makeInt64Initializer, makeNode } from '../onnx/build.js';
import { FLOAT32 } from '../onnx/data-types.js';
import type { OnnxModel } from '../onnx/onnx-model.js';
import { opsetOf } from '../onnx/opset-of.js';
import type { TwoRunFacts, ValueFacts } from '../onnx/value-facts.js';
import { buildGradientGraph } from '../operators/gradient-graph.js';
import type { InputLinear } from '../removal/input-linears.js';
import type { LoadedSlice, StageExtension } from '../runtime/compile-stage.js';
import type { Engine } from '../runtime/engine.js';
import type { FfnExample } from './ffn-examples.js';

/** A pruned FFN, with examples of the outputs of the dense one. */
export interface PrunedFfn {
  readonly engine: Engine;
  /** The pruned model. */
  readonly model: OnnxModel;
  readonly facts: TwoRunFacts;
  readonly module: PrunableModule;
  readonly linears: readonly Pick<InputLinear, 'result' | 'columns'>[];
  /** Value of the FFN's input, as in the examples. */
  readonly source: string;
  /** Examples of equal size, at least one. */
  readonly examples: readonly FfnExample[];
  /** Examples on which changes of the output are measured, at least one. */
  readonly sample: readonly FfnExample[];
  readonly signal?: AbortSignal | undefined;
  readonly onExample?: (() => void) | undefined;
}

/** Shapes of an FFN, known after a first run. */
export interface FfnShape {
  /** Facts of every value between source and result. */
  readonly facts: ValueFacts;
  readonly inputCount: number;
  readonly neuronCount: number;
  /** Of all examples. */
  readonly tokenCount: number;
}

/** The examples' target, a graph input. */
export const TARGET = 'inputs/target';
/** Difference of output and target. */
const RESIDUAL = 'inputs/residual';
/** Sum of squares of the difference. */
export const ERROR = 'inputs/error';
/** The FFN's input as rows of single precision. */
export const ROWS = 'inputs/rows';

export const node = (op: string, inputs: readonly string[], output: string, attributes = {}) =>
  makeNode({ op, inputs, outputs: [output], attributes });

/** An extension that adds only nodes, without graph inputs or outputs. */
const inner = (nodes: StageExtension['nodes'], initializers: StageExtension['initializers'] = []): StageExtension => ({
  nodes,
  initializers,
  inputs: [],
  outputs: [],
});

/** Difference from the targets, and its sum of squares. */
export function errorNodes({ module, examples }: PrunedFfn): StageExtension {
  return {
    nodes: [
      node('Cast', [module.output.result], 'inputs/result', { to: FLOAT32 }),
      node('Cast', [TARGET], 'inputs/wanted', { to: FLOAT32 }),
      node('Sub', ['inputs/result', 'inputs/wanted'], RESIDUAL),
      node('Mul', [RESIDUAL, RESIDUAL], 'inputs/squares'),
      node('ReduceSum', ['inputs/squares'], ERROR, { keepdims: 0 }),
    ],
    initializers: [],
    inputs: [{ name: TARGET, type: examples[0]!.target.type }],
    outputs: [ERROR],
  };
}

export function rowNodes({ module }: PrunedFfn, { inputCount }: FfnShape): StageExtension {
  return inner(
    [
      node('Cast', [module.input], 'inputs/float', { to: FLOAT32 }),
      node('Reshape', ['inputs/float', 'inputs/row_shape'], ROWS),
    ],
    [makeInt64Initializer('inputs/row_shape', [-1, inputCount])],
  );
}

/** One list of columns of one input projection. */
export interface ColumnList {
  readonly result: string;
  readonly columns: Int32Array;
  /** Prefix of the names of values computed from the list. */
  readonly name: string;
}

export const listsOf = ({ linears }: PrunedFfn): ColumnList[] =>
  linears.flatMap(({ result, columns }, linear) =>
    columns.map((list, at) => ({ result, columns: list, name: `inputs/${linear}/${at}` })),
  );

/** Gathers a list's columns of a value with the dims of the layer's output, as `[tokens, neurons]` named `to`. */
export function columnNodes(
  { columns, result }: ColumnList,
  { facts }: FfnShape,
  { value, to }: { readonly value: string; readonly to: string },
): StageExtension {
  const width = facts.get(result)!.dims.at(-1)!;
  const isIdentity = columns.length === width && columns.every((column, at) => column === at);
  const picked = isIdentity ? value : `${to}/picked`;
  return inner(
    [
      ...(isIdentity ? [] : [node('Gather', [value, `${to}/columns`], picked, { axis: -1 })]),
      node('Reshape', [picked, `${to}/shape`], to),
    ],
    [
      ...(isIdentity ? [] : [makeInt64Initializer(`${to}/columns`, [...columns])]),
      makeInt64Initializer(`${to}/shape`, [-1, columns.length]),
    ],
  );
}

/** Nodes that compute the gradient at each layer's output, by the name of that output. */
export interface LinearGradients {
  readonly extension: StageExtension;
  of(result: string): string;
}

/** Gradient of the error at each layer's output. */
export function cotangentNodes(given: PrunedFfn, shape: FfnShape, slice: LoadedSlice): LinearGradients {
  const start = { value: given.module.output.result, cotangent: RESIDUAL, prefix: 'inputs/loss/' };
  return differentiate(given, shape, { slice, ...start });
}

/** Derivative of each neuron with respect to each layer's output: the gradient of the sum of all neurons. */
export function rateNodes(given: PrunedFfn, shape: FfnShape, slice: LoadedSlice): LinearGradients {
  const { input } = given.module.output;
  const [ones, prefix] = ['inputs/ones', 'inputs/rate/'];
  const { extension, of } = differentiate(given, shape, { slice, value: input, cotangent: ones, prefix });
  const nodes = [node('Shape', [input], 'inputs/shape'), node('Expand', ['inputs/one', 'inputs/shape'], ones)];
  const initializers = [makeFloatInitializer('inputs/one', [1], [1]), ...extension.initializers];
  return { extension: { ...extension, nodes: [...nodes, ...extension.nodes], initializers }, of };
}

interface Differentiation {
  readonly slice: LoadedSlice;
  /** Value that the gradient starts from, and the name of its cotangent. */
  readonly value: string;
  readonly cotangent: string;
  readonly prefix: string;
}

function differentiate(
  { model, linears }: PrunedFfn,
  { facts }: FfnShape,
  { slice, value, cotangent, prefix }: Differentiation,
): LinearGradients {
  const { nodes, initializers, domains, gradients } = buildGradientGraph({
    graph: { ...slice, opset: opsetOf(model.proto) },
    shapes: facts,
    outputs: [{ value, cotangent }],
    wanted: linears.map(({ result }) => result),
    prefix,
  });
  return { extension: { ...inner(nodes, initializers), domains }, of: (result) => gradients.get(result)! };
}
