import type { TensorProto } from 'onnx-buf';
import { createRandom } from '../../src/linalg/random.js';
import { makeInitializer, makeNode, type NodeSpec } from '../../src/onnx/build.js';
import type { ValueFact } from '../../src/onnx/value-facts.js';
import { buildGradientGraph } from '../../src/operators/gradient-graph.js';
import type { Session, Tensor, Tensors } from '../../src/runtime/engine.js';
import { DATA_TYPES, loadGraph } from './load-graph.js';

/** Numbers drawn uniformly from [from, to), by default [-1, 1). */
export interface RandomTensor {
  readonly dims: readonly number[];
  readonly from?: number;
  readonly to?: number;
}

/** A small graph whose gradient is compared with central differences. */
export interface GradientCase {
  readonly nodes: readonly NodeSpec[];
  /** Float inputs of the graph. */
  readonly inputs: Readonly<Record<string, RandomTensor>>;
  /** Integer and boolean constants, and floats that are part of the operator's form. */
  readonly constants?: Readonly<Record<string, ConstantTensor>>;
  /** Values with a (random) cotangent. Default `['y']`. */
  readonly outputs?: readonly string[];
  /** Default: all inputs. */
  readonly wanted?: readonly string[];
  /** Default 21. */
  readonly opset?: number;
  /** Default float64; operators without such a kernel are checked in float32 with a larger step and tolerance. */
  readonly precision?: Precision;
}

export type ConstantTensor =
  | {
      readonly type: 'int64' | 'int32' | 'uint8' | 'bool';
      readonly dims: readonly number[];
      readonly values: readonly number[];
    }
  | { readonly type: 'float'; readonly dims: readonly number[]; readonly values: readonly number[] };

export type Precision = 'float64' | 'float32';

/**
 * Step of the differences and the largest error allowed, relative to the largest gradient of the tensor. Central differences are off
 * by about step^2 (truncation) and epsilon / step (rounding): 1e-10 in float64, 1e-4 in float32.
 */
const PRECISIONS = {
  float64: { dataType: 11, step: 1e-5, tolerance: 1e-7 },
  float32: { dataType: 1, step: 1e-2, tolerance: 2e-3 },
} as const;

/** Largest error of each wanted gradient, relative to its largest element, and the tolerance it should stay below. */
export interface GradientCheck {
  readonly errors: Readonly<Record<string, number>>;
  readonly tolerance: number;
}

/** Differentiates the case and compares every element with central differences run in ONNX Runtime. */
export async function runGradientCheck(given: GradientCase): Promise<GradientCheck> {
  const { step, tolerance } = PRECISIONS[given.precision ?? 'float64'];
  const wanted = given.wanted ?? Object.keys(given.inputs);
  const { gradients, cotangents, feeds } = await differentiateCase(given);
  const forward = await loadForward(given, given.outputs ?? ['y']);
  const errors: Record<string, number> = {};
  for (const name of wanted) {
    const numeric = await centralDifferences(forward, { feeds, name, step, cotangents });
    errors[name] = relativeError(gradients[name] ?? [], numeric);
  }
  await forward.release();
  return { errors, tolerance };
}

export interface DifferentiatedCase {
  readonly gradients: Readonly<Record<string, ArrayLike<number>>>;
  readonly cotangents: Readonly<Record<string, ArrayLike<number>>>;
  readonly feeds: Tensors;
  /** Operators of the backward nodes, in order. */
  readonly backwardOps: readonly string[];
}

/** Builds and runs the gradient graph of a case on seeded random inputs and cotangents. */
export async function differentiateCase(given: GradientCase): Promise<DifferentiatedCase> {
  const outputs = given.outputs ?? ['y'];
  const wanted = given.wanted ?? Object.keys(given.inputs);
  const random = createRandom(1);
  const feeds = drawInputs(given, random);
  const shapes = await learnShapes(given, feeds);
  const nodes = given.nodes.map(makeNode);
  const initializers = constantsOf(given);
  const backward = buildGradientGraph({
    graph: {
      nodes,
      initializers: new Map(initializers.map((tensor) => [tensor.name, tensor])),
      opset: given.opset ?? 21,
    },
    shapes,
    outputs: outputs.map((value) => ({ value })),
    wanted,
  });
  const cotangents = Object.fromEntries(
    outputs.map((name) => [`grad:${name}`, draw({ dims: shapes.get(name)?.dims ?? [] }, typeOf(given), random)]),
  );
  const session = await loadGraph({
    opset: given.opset ?? 21,
    nodes: [...nodes, ...backward.nodes],
    initializers: [...initializers, ...backward.initializers],
    inputs: { ...feeds, ...cotangents },
    outputs: [...backward.gradients.values()],
  });
  const results = await session.run({ ...feeds, ...cotangents });
  await session.release();
  return {
    gradients: Object.fromEntries([...backward.gradients].map(([name, value]) => [name, numbers(results[value])])),
    cotangents: Object.fromEntries(Object.entries(cotangents).map(([name, tensor]) => [name, numbers(tensor)])),
    feeds,
    backwardOps: backward.nodes.map(({ opType }) => opType),
  };
}

interface Differences {
  readonly feeds: Tensors;
  readonly name: string;
  readonly step: number;
  readonly cotangents: Readonly<Record<string, ArrayLike<number>>>;
}

async function centralDifferences(forward: Session, { feeds, name, step, cotangents }: Differences): Promise<number[]> {
  const x = feeds[name];
  if (x === undefined) throw new Error(`${name} is no input of the case.`);
  const loss = async (at: number, by: number): Promise<number> => {
    const moved = x.data.slice() as Float64Array;
    moved[at] = (moved[at] ?? 0) + by;
    const results = await forward.run({ ...feeds, [name]: { ...x, data: moved } as Tensor });
    return Object.entries(results).reduce(
      (sum, [value, y]) => sum + dot(numbers(y), cotangents[`grad:${value}`] ?? []),
      0,
    );
  };
  const differences: number[] = [];
  for (let at = 0; at < x.data.length; at++) {
    differences.push(((await loss(at, step)) - (await loss(at, -step))) / (2 * step));
  }
  return differences;
}

function relativeError(actual: ArrayLike<number>, expected: readonly number[]): number {
  if (actual.length !== expected.length) return Number.POSITIVE_INFINITY;
  const largest = expected.reduce((max, value) => Math.max(max, Math.abs(value)), 1e-6);
  const errors = expected.map((value, at) => Math.abs(value - (actual[at] ?? Number.NaN)) / largest);
  return Math.max(0, ...errors);
}

function dot(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let sum = 0;
  for (let at = 0; at < a.length; at++) sum += (a[at] ?? 0) * (b[at] ?? 0);
  return sum;
}

/** Seeded random tensors for the float inputs of a case. */
export function drawInputs(given: GradientCase, random = createRandom(1)): Tensors {
  return Object.fromEntries(
    Object.entries(given.inputs).map(([name, tensor]) => [name, draw(tensor, typeOf(given), random)]),
  );
}

/** Dims and contents of all values of a case. */
export async function learnShapes(given: GradientCase, feeds: Tensors): Promise<Map<string, ValueFact>> {
  const names = given.nodes.flatMap(({ outputs }) => outputs).filter((name) => name !== '');
  const session = await loadForward(given, names);
  const results = await session.run(feeds);
  await session.release();
  const shapes = new Map<string, ValueFact>();
  for (const [name, tensor] of Object.entries({ ...feeds, ...results })) {
    const integers = tensor.type === 'int64' || tensor.type === 'int32';
    shapes.set(name, {
      dims: tensor.dims,
      dataType: DATA_TYPES[tensor.type],
      ...(integers && { ints: Array.from(tensor.data, Number) }),
    });
  }
  for (const tensor of constantsOf(given)) {
    const constant = given.constants?.[tensor.name];
    const integers = constant?.type === 'int64' || constant?.type === 'int32';
    const fact = { dims: tensor.dims.map(Number), dataType: tensor.dataType };
    shapes.set(tensor.name, { ...fact, ...(integers && { ints: constant.values }) });
  }
  return shapes;
}

function loadForward(given: GradientCase, outputs: readonly string[]): Promise<Session> {
  const inputs = Object.fromEntries(
    Object.entries(given.inputs).map(([name, tensor]) => [name, draw(tensor, typeOf(given), () => 0)]),
  );
  return loadGraph({
    opset: given.opset ?? 21,
    nodes: given.nodes.map(makeNode),
    initializers: constantsOf(given),
    inputs,
    outputs,
  });
}

const typeOf = ({ precision = 'float64' }: GradientCase): Precision => precision;

function draw({ dims, from = -1, to = 1 }: RandomTensor, type: Precision, random: () => number): Tensor {
  const length = dims.reduce((product, dim) => product * dim, 1);
  const values = Array.from({ length }, () => from + (to - from) * random());
  return type === 'float64'
    ? { type, dims, data: Float64Array.from(values) }
    : { type, dims, data: Float32Array.from(values) };
}

/** Its integer and boolean constants, and floats that are part of the operator's form. */
export function constantsOf(given: GradientCase): TensorProto[] {
  const { dataType } = PRECISIONS[typeOf(given)];
  return Object.entries(given.constants ?? {}).map(([name, { type, dims, values }]) => {
    const number = type === 'float' ? dataType : DATA_TYPES[type];
    return makeInitializer(name, number, dims, encode(number, values));
  });
}

function encode(dataType: number, values: readonly number[]): Uint8Array<ArrayBuffer> {
  switch (dataType) {
    case 1:
      return new Uint8Array(Float32Array.from(values).buffer);
    case 11:
      return new Uint8Array(Float64Array.from(values).buffer);
    case 6:
      return new Uint8Array(Int32Array.from(values).buffer);
    case 7:
      return new Uint8Array(BigInt64Array.from(values, BigInt).buffer);
    default:
      return Uint8Array.from(values);
  }
}

function numbers(tensor: Tensor | undefined): ArrayLike<number> {
  if (tensor === undefined || tensor.type === 'int64') throw new Error('The graph gave no float result.');
  return tensor.data;
}
