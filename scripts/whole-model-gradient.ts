import { create, toBinary } from '@bufbuild/protobuf';
import { GraphProtoSchema, ModelProtoSchema, type NodeProto, OperatorSetIdProtoSchema } from 'onnx-buf';
import * as ort from 'onnxruntime-node';
import { appendCrossEntropy } from '../src/autodiff/cross-entropy.js';
import { buildGradientGraph } from '../src/autodiff/gradient-graph.js';
import { makeInitializer, makeValueInfo } from '../src/graph/build.js';
import { lowerForRun } from '../src/graph/lower-for-run.js';
import { readModelInputs } from '../src/graph/model-inputs.js';
import type { ValueFacts } from '../src/graph/value-facts.js';
import { openModelFolder } from '../src/node/model-folder.js';
import { decodeFloats } from '../src/onnx/float-encoding.js';
import { createOrtEngine } from '../src/runtime/ort-engine.js';
import { prefillFeeds } from '../src/runtime/prefill-feeds.js';
import { probeValues } from '../src/runtime/probe-values.js';

export interface BlockGradient {
  /** Value that holds h, the input of the FFN's last linear map. */
  readonly name: string;
  /** `[B, S, F]`, row-major. */
  readonly h: Float32Array;
  readonly gradient: Float32Array;
}

export interface WholeModelGradient {
  readonly loss: number;
  readonly blocks: readonly BlockGradient[];
}

/** Loss of a small model on windows of equal length, and its gradient at every value of width `ffnSize` that a linear map reads. */
export async function differentiateModel(
  path: string,
  windows: readonly (readonly number[])[],
  ffnSize: number,
): Promise<WholeModelGradient> {
  const engine = createOrtEngine(ort);
  const folder = await openModelFolder(path);
  const { proto, weights } = await folder.load();
  if (proto.graph === undefined) throw new Error(`${path} has no graph.`);
  const graph = { ...proto.graph, node: lowerForRun(proto.graph) };
  const size = { batchSize: windows.length, sequenceLength: windows[0]?.length ?? 0 };
  const shapes = await probeValues({ engine, proto, graph, weights, ...size });
  const opset = Number(proto.opsetImport.find(({ domain }) => domain === '' || domain === 'ai.onnx')?.version ?? 0);
  const initializers = await Promise.all(
    graph.initializer.map(async (tensor) => {
      const handle = weights.get(tensor.name);
      return handle ? makeInitializer(tensor.name, handle.dataType, handle.dims, await handle.read()) : tensor;
    }),
  );
  await folder.close();
  const inputs = readModelInputs(graph);
  const tokens = inputs.find(({ role }) => role === 'tokens');
  const logits = graph.output.find(({ name }) => (shapes.get(name)?.dims.length ?? 0) === 3)?.name ?? '';
  const fact = shapes.get(logits);
  if (tokens === undefined || fact === undefined) throw new Error(`${path} has no tokens or logits.`);
  const loss = appendCrossEntropy({ logits: { value: logits, fact }, tokens: 'windows', opset });
  const names = graph.node.filter((node) => isDown(node, shapes, ffnSize)).map(({ input }) => input[0] ?? '');
  const backward = buildGradientGraph({
    graph: { nodes: graph.node, initializers: new Map(initializers.map((tensor) => [tensor.name, tensor])), opset },
    shapes,
    outputs: [{ value: logits, cotangent: loss.cotangent }],
    wanted: names,
  });
  const fetches = names.flatMap((name) => [name, backward.gradients.get(name) ?? '']);
  const imported = new Set(proto.opsetImport.map(({ domain }) => domain));
  const model = create(ModelProtoSchema, {
    irVersion: proto.irVersion,
    opsetImport: [
      ...proto.opsetImport,
      ...backward.domains
        .filter((domain) => !imported.has(domain))
        .map((domain) => create(OperatorSetIdProtoSchema, { domain, version: 1n })),
    ],
    graph: create(GraphProtoSchema, {
      name: 'gradient',
      node: [...graph.node, ...loss.nodes, ...backward.nodes],
      initializer: [...initializers, ...loss.initializers, ...backward.initializers],
      input: [
        ...graph.input.filter(({ name }) => !weights.has(name)),
        makeValueInfo('windows', 7, [size.batchSize, size.sequenceLength]),
      ],
      output: [makeValueInfo(loss.loss, 1), ...fetches.map((name) => makeValueInfo(name, typeOf(name, shapes)))],
    }),
  });
  const session = await engine.load(toBinary(ModelProtoSchema, model));
  const flat = windows.flat();
  const results = await session.run({
    ...prefillFeeds(inputs, size, flat),
    windows: {
      type: 'int64',
      dims: [size.batchSize, size.sequenceLength],
      data: BigInt64Array.from(flat, BigInt),
    },
  });
  await session.release();
  const read = (name: string): Float32Array => {
    const tensor = results[name];
    if (tensor?.type === 'float16') return decodeFloats(10, new Uint8Array(tensor.data.slice().buffer));
    return tensor?.data as Float32Array;
  };
  return {
    loss: read(loss.loss)[0] ?? Number.NaN,
    blocks: names.map((name) => ({ name, h: read(name), gradient: read(backward.gradients.get(name) ?? '') })),
  };
}

const LINEAR = new Set(['MatMul', 'Gemm', 'MatMulNBits', 'FusedMatMul']);

function isDown(node: NodeProto, shapes: ValueFacts, ffnSize: number): boolean {
  const from = shapes.get(node.input[0] ?? '')?.dims ?? [];
  const to = shapes.get(node.output[0] ?? '')?.dims ?? [];
  const weight = shapes.get(node.input[1] ?? '')?.dims ?? [];
  const isWeight = node.opType === 'MatMulNBits' || weight.length === 2;
  return LINEAR.has(node.opType) && isWeight && from.at(-1) === ffnSize && to.at(-1) !== ffnSize;
}

function typeOf(name: string, shapes: ValueFacts): number {
  return shapes.get(name)?.dataType ?? 1;
}
