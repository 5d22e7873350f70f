import { create, toBinary } from '@bufbuild/protobuf';
import { GraphProtoSchema, ModelProtoSchema, OperatorSetIdProtoSchema } from 'onnx-buf';
import * as ort from 'onnxruntime-node';
import { EngineError, OptionError } from '../errors.js';
import { makeNode, makeValueInfo } from '../graph/build.js';
import type { Engine } from '../runtime/engine.js';
import { createOrtEngine } from '../runtime/ort-engine.js';

/** One execution provider, or several in order of preference, in ONNX Runtime's names. */
export type ExecutionProviderChoice = string | readonly string[];

/**
 * Makes an engine of onnxruntime-node on the first provider that works here (and those after it, as ONNX Runtime's own
 * fallbacks for single operators).
 * @throws OptionError for a name this build does not know. @throws EngineError when none of the providers starts.
 */
export async function createNodeEngine(choice: ExecutionProviderChoice = 'cpu'): Promise<Engine> {
  const wanted = [choice].flat();
  const known = ort.listSupportedBackends().map(({ name }) => name);
  const stranger = wanted.find((name) => !known.includes(name));
  if (stranger !== undefined || wanted.length === 0) {
    throw new OptionError(`execution provider "${stranger ?? ''}" is unknown; this build has ${known.join(', ')}`);
  }
  const failures: string[] = [];
  for (const [at, provider] of wanted.entries()) {
    const engine = createOrtEngine(ort, { executionProviders: wanted.slice(at) });
    const failure = provider === 'cpu' ? undefined : await tryProvider(provider);
    if (failure === undefined) return engine;
    failures.push(`${provider}: ${failure}`);
  }
  throw new EngineError(
    `no execution provider that was asked for starts here (${failures.join('; ')}). For CUDA see "GPU" in the README; ` +
      'otherwise choose cpu, or a list that ends in cpu',
  );
}

/** Runs a graph of one node; ONNX Runtime names a provider as known long before its libraries are there. */
async function tryProvider(provider: string): Promise<string | undefined> {
  try {
    const session = await createOrtEngine(ort, { executionProviders: [provider] }).load(identityGraph());
    await session.run({ x: { type: 'float32', dims: [1], data: Float32Array.of(1) } });
    await session.release();
    return undefined;
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

function identityGraph(): Uint8Array {
  const model = create(ModelProtoSchema, {
    irVersion: 8n,
    opsetImport: [create(OperatorSetIdProtoSchema, { domain: '', version: 17n })],
    graph: create(GraphProtoSchema, {
      name: 'identity',
      node: [makeNode({ op: 'Identity', inputs: ['x'], outputs: ['y'] })],
      input: [makeValueInfo('x', 1, [1])],
      output: [makeValueInfo('y', 1, [1])],
    }),
  });
  return toBinary(ModelProtoSchema, model);
}
