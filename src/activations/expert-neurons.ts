import type { NodeProto } from 'onnx-buf';
import { UnsupportedModelError } from '../errors.js';
import { makeValueInfo } from '../onnx/build.js';
import { FLOAT32 } from '../onnx/data-types.js';
import { encodeGraph, OPSET } from '../onnx/encode-graph.js';
import { isFloatType } from '../onnx/float-encoding.js';
import { createNodeEmitter } from '../onnx/node-emitter.js';
import type { OnnxModel } from '../onnx/onnx-model.js';
import { createTensorOps, type TensorOps } from '../onnx/tensor-ops.js';
import type { Value } from '../onnx/value.js';
import { OPEN } from '../onnx/value-facts.js';
import { neuronsOfExperts, secondLinearOfExperts } from '../operators/experts.js';
import type { LoweringContext } from '../operators/gradient-rule.js';
import { ARRAYS, dataTypeOf, type Engine, type Tensor, type Tensors, typeOf } from '../runtime/engine.js';
import { tensorFloats } from '../runtime/tensor-floats.js';
import { releaseTensors } from '../runtime/tensor-memory.js';
import { type ExpertProbeRequest, type ExpertRows, gatherRows } from './expert-probe.js';

/** Neurons inside single experts of one mixture. */
export interface NeuronProbe {
  /**
   * Neurons of the given experts for each row, `[pairs, neurons]`, concatenated in the order of the lists.
   * @param experts by row
   */
  run(rows: ExpertRows, experts: readonly (readonly number[])[]): Promise<Float32Array>;
  /** Weight of an expert's second linear layer, `[neurons, channels]`. */
  readSecondLinear(expert: number): Promise<Float32Array>;
  release(): Promise<void>;
}

/** Builds a graph of a fused mixture's first linear layer and activation, for one expert whose weights are fed at each run. */
export async function openFusedNeurons({
  engine,
  model,
  module,
  type,
}: Omit<ExpertProbeRequest, 'metric'>): Promise<NeuronProbe> {
  const { result, outputCount: size, node: label } = module.output;
  const node = model.proto.graph!.node.find(({ output }) => output.includes(result));
  if (node === undefined) throw new UnsupportedModelError(`the mixture ${label} is no longer in the graph`);
  const source = { engine, model, node };
  const first = await openExpertGraph({ ...source, rows: { type, size } }, neuronsOfExperts);
  const second = await openExpertGraph(source, (c) => c.o.transpose(secondLinearOfExperts(c), [0, 2, 1]));
  const neuronCount = module.neurons!.unitCount * module.neurons!.unitSize;
  return {
    async run(rows, lists) {
      const places = new Map<number, { readonly row: number; readonly pair: number }[]>();
      let pair = 0;
      lists.forEach((experts, row) => {
        for (const expert of experts) {
          const known = places.get(expert);
          if (known === undefined) places.set(expert, [{ row, pair }]);
          else known.push({ row, pair });
          pair += 1;
        }
      });
      const found = new Float32Array(pair * neuronCount);
      for (const [expert, pairs] of places) {
        const data = gatherRows(
          rows,
          pairs.map(({ row }) => row),
          size,
        );
        const neurons = await first.run(expert, { type, dims: [1, pairs.length, size], data } as Tensor);
        pairs.forEach((place, at) => {
          found.set(neurons.subarray(at * neuronCount, (at + 1) * neuronCount), place.pair * neuronCount);
        });
      }
      return found;
    },
    readSecondLinear: (expert) => second.run(expert),
    async release() {
      await Promise.all([first.release(), second.release()]);
    },
  };
}

interface ExpertGraphSource {
  readonly engine: Engine;
  readonly model: OnnxModel;
  /** The mixture. */
  readonly node: NodeProto;
  /** Rows that the graph reads besides the weights. */
  readonly rows?: { readonly type: Tensor['type']; readonly size: number };
}

/** A part of a mixture, for one expert. */
interface ExpertGraph {
  run(expert: number, rows?: Tensor): Promise<Float32Array>;
  release(): Promise<void>;
}

/** Compiles a graph of a mixture's inputs for one expert, whose weights are fed at each run. */
async function openExpertGraph(
  { engine, model, node, rows }: ExpertGraphSource,
  build: (c: LoweringContext) => Value,
): Promise<ExpertGraph> {
  const factOf = (at: number) => {
    const handle = at === 0 ? undefined : model.weights.get(node.input[at]!);
    return handle === undefined
      ? { dataType: dataTypeOf(rows!.type), dims: [1, OPEN, rows!.size] }
      : { dataType: handle.dataType, dims: [1, ...handle.dims.slice(1)] };
  };
  const graph = await openGraph(engine, (o) => {
    const input = (at: number) => {
      const value = { name: node.input[at]!, ...factOf(at) };
      return isFloatType(value.dataType) ? o.cast(value, FLOAT32) : value;
    };
    const inputs = node.input.flatMap((name, at) => (at === 1 || name === '' ? [] : { name, at }));
    return {
      inputs: inputs.filter(({ at }) => at > 0 || rows !== undefined).map(({ name, at }) => ({ name, ...factOf(at) })),
      outputs: { result: build({ node, o, has: (at) => (node.input[at] ?? '') !== '', input }) },
    };
  });
  const weights = [...graph.reads].filter((name) => name !== node.input[0]);
  return {
    async run(expert, tensor) {
      const feeds: Record<string, Tensor> = tensor === undefined ? {} : { [node.input[0]!]: tensor };
      for (const name of weights) feeds[name] = await readOfExpert(model, name, expert);
      return (await graph.run(feeds)).result;
    },
    release: () => graph.release(),
  };
}

/** One expert's part of a stack of weights. */
async function readOfExpert(model: OnnxModel, name: string, expert: number): Promise<Tensor> {
  const { dataType, dims, byteLength, read } = model.weights.get(name)!;
  const length = byteLength / dims[0]!;
  const bytes = await read({ offset: expert * length, length });
  const type = typeOf(dataType);
  if (type === undefined) throw new UnsupportedModelError(`"${name}" has a data type that cannot be a graph input`);
  const data = new ARRAYS[type](bytes.slice().buffer);
  return { type, dims: [1, ...dims.slice(1)], data } as Tensor;
}

interface GraphParts<Name extends string> {
  readonly inputs: readonly Value[];
  readonly outputs: Readonly<Record<Name, Value>>;
}

/** Runs a small graph; results are in single precision. */
interface OpenedGraph<Name extends string> {
  /** Inputs that it reads. */
  readonly reads: ReadonlySet<string>;
  run(feeds: Tensors): Promise<Readonly<Record<Name, Float32Array>>>;
  release(): Promise<void>;
}

async function openGraph<Name extends string>(
  engine: Engine,
  build: (o: TensorOps) => GraphParts<Name>,
): Promise<OpenedGraph<Name>> {
  const emitter = createNodeEmitter('neurons/');
  const { inputs, outputs } = build(createTensorOps(emitter, OPSET));
  const names = Object.entries<Value>(outputs).map(([key, { name }]) => [key as Name, name] as const);
  const { nodes, initializers } = emitter.finish(names.map(([, name]) => name));
  const read = new Set(nodes.flatMap(({ input }) => input));
  const named = (dims: readonly number[]) => dims.map((dim) => (dim === OPEN ? 'rows' : dim));
  const bytes = encodeGraph({
    name: 'neurons',
    node: nodes,
    initializer: initializers,
    input: inputs.flatMap(({ name, dataType, dims }) =>
      read.has(name) ? [makeValueInfo(name, dataType, named(dims))] : [],
    ),
    output: names.map(([, name]) => makeValueInfo(name, FLOAT32)),
  });
  const session = await engine.load(bytes);
  return {
    reads: new Set(inputs.map(({ name }) => name).filter((name) => read.has(name))),
    async run(feeds) {
      const values = await session.run(feeds);
      const found = names.map(
        ([key, name]) => [key, tensorFloats(values[name]!, 'outputs of neurons').slice()] as const,
      );
      releaseTensors(values);
      return Object.fromEntries(found) as Record<Name, Float32Array>;
    },
    release: () => session.release(),
  };
}

/** Cost of removing neurons of an expert. */
export interface NeuronCosts {
  /** Sum over the tokens of the squared change caused by the removed neurons. */
  readonly total: number;
  /** Increase of the cost if one more neuron were removed, by neuron. */
  readonly rises: Float64Array;
}

/** Computes the contribution of an expert's neurons to the mixture's output. */
export interface NeuronCostMeter {
  /** @param weights `[neurons, channels]`, of the second linear layer. @returns the weights transformed by the metric */
  weigh(weights: Float32Array): Promise<Float32Array>;
  /**
   * @param neurons `[tokens, neurons]`, times the routing weights
   * @param weighted from `weigh`
   * @param removed by neuron: 1 for removed neurons
   */
  measure(neurons: Float32Array, weighted: Float32Array, removed: Float32Array): Promise<NeuronCosts>;
  release(): Promise<void>;
}

export interface NeuronCostMeterRequest {
  readonly engine: Engine;
  readonly neuronCount: number;
  readonly size: number;
  /** `[size, size]` row-major; rows are multiplied by it. Default: the identity. */
  readonly metric: Float32Array | undefined;
}

/** Compiles the graphs that compute the cost of removing neurons of a mixture's experts. */
export async function openNeuronCostMeter({
  engine,
  neuronCount,
  size,
  metric,
}: NeuronCostMeterRequest): Promise<NeuronCostMeter> {
  const value = (name: string, dims: readonly number[]): Value => ({ name, dims, dataType: FLOAT32 });
  const [weights, factor] = [value('weights', [neuronCount, size]), value('metric', [size, size])];
  const weighing =
    metric &&
    (await openGraph(engine, (o) => ({ inputs: [weights, factor], outputs: { weighted: o.matMul(weights, factor) } })));
  const [neurons, weighted, removed] = [
    value('neurons', [OPEN, neuronCount]),
    value('weighted', [neuronCount, size]),
    value('removed', [neuronCount]),
  ];
  const costing = await openGraph(engine, (o) => {
    const change = o.matMul(o.mul(neurons, removed), weighted);
    const own = o.mul(o.sum(o.mul(neurons, neurons), [0], false), o.sum(o.mul(weighted, weighted), [1], false));
    const cross = o.sum(o.mul(neurons, o.matMul(change, weighted, { transB: true })), [0], false);
    return {
      inputs: [neurons, weighted, removed],
      outputs: { total: o.total(o.mul(change, change)), rises: o.add(own, o.mul(cross, 2)) },
    };
  });
  const tensor = (dims: readonly number[], data: Float32Array): Tensor => ({ type: 'float32', dims, data });
  return {
    async weigh(values) {
      if (weighing === undefined || metric === undefined) return values;
      const feeds = { weights: tensor(weights.dims, values), metric: tensor(factor.dims, metric) };
      return (await weighing.run(feeds)).weighted;
    },
    async measure(values, products, marks) {
      const { total, rises } = await costing.run({
        neurons: tensor([values.length / neuronCount, neuronCount], values),
        weighted: tensor(weighted.dims, products),
        removed: tensor(removed.dims, marks),
      });
      return { total: total[0]!, rises: Float64Array.from(rises) };
    },
    async release() {
      await Promise.all([weighing?.release(), costing.release()]);
    },
  };
}
