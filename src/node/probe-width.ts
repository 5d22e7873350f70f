import { makeFloatInitializer, makeNode, makeValueInfo } from '../onnx/build.js';
import { FLOAT32 } from '../onnx/data-types.js';
import { encodeGraph } from '../onnx/encode-graph.js';
import type { Session, Tensor } from '../runtime/engine.js';
import type { WorkerCalls } from './bench-protocol.js';
import { createNodeEngine } from './node-engine.js';

/** Least time and number of repeated runs, after a warm-up. */
const PROBE_MS = 40;
const MIN_RUNS = 3;

/** Times the two matrix products of an FFN, hidden size to width and back, with constant weights as in a model. */
export async function probeWidth({
  hiddenSize,
  width,
  promptLength,
  executionProvider,
}: WorkerCalls['probe']['request']): Promise<WorkerCalls['probe']['answer']> {
  const engine = await createNodeEngine({ executionProvider, threads: 0 });
  const session = await engine.load(ffnGraph(hiddenSize, width));
  try {
    return {
      prefillMs: await timeRuns(session, rows(promptLength, hiddenSize)),
      decodeMs: await timeRuns(session, rows(1, hiddenSize)),
    };
  } finally {
    await session.release();
  }
}

/** Median time of a run. */
async function timeRuns(session: Session, x: Tensor): Promise<number> {
  await session.run({ x });
  const times: number[] = [];
  for (let spent = 0; spent < PROBE_MS || times.length < MIN_RUNS; ) {
    const start = performance.now();
    await session.run({ x });
    const ms = performance.now() - start;
    times.push(ms);
    spent += ms;
  }
  return times.sort((a, b) => a - b)[Math.floor(times.length / 2)]!;
}

function rows(count: number, width: number): Tensor {
  return { type: 'float32', dims: [count, width], data: new Float32Array(count * width).fill(0.5) };
}

function ffnGraph(hiddenSize: number, width: number): Uint8Array {
  const values = new Float32Array(hiddenSize * width).fill(0.01);
  return encodeGraph({
    name: 'ffn-probe',
    node: [
      makeNode({ op: 'MatMul', inputs: ['x', 'up'], outputs: ['wide'] }),
      makeNode({ op: 'MatMul', inputs: ['wide', 'down'], outputs: ['y'] }),
    ],
    initializer: [
      makeFloatInitializer('up', [hiddenSize, width], values),
      makeFloatInitializer('down', [width, hiddenSize], values),
    ],
    input: [makeValueInfo('x', FLOAT32, ['tokens', hiddenSize])],
    output: [makeValueInfo('y', FLOAT32, ['tokens', hiddenSize])],
  });
}
