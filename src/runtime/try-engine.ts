import { makeNode, makeValueInfo } from '../onnx/build.js';
import { FLOAT32 } from '../onnx/data-types.js';
import { encodeGraph } from '../onnx/encode-graph.js';
import type { Engine } from './engine.js';

/**
 * Runs a graph of one node, since ONNX Runtime lists providers even if their libraries are missing.
 * @returns the error; undefined if it works
 */
export async function tryEngine(engine: Engine): Promise<string | undefined> {
  try {
    const session = await engine.load(identityGraph());
    await session.run({ x: { type: 'float32', dims: [1], data: Float32Array.of(1) } });
    await session.release();
    return undefined;
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

function identityGraph(): Uint8Array {
  return encodeGraph({
    name: 'identity',
    node: [makeNode({ op: 'Identity', inputs: ['x'], outputs: ['y'] })],
    input: [makeValueInfo('x', FLOAT32, [1])],
    output: [makeValueInfo('y', FLOAT32, [1])],
  });
}
