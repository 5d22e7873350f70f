import { create } from '@bufbuild/protobuf';
import { GraphProtoSchema, ModelProtoSchema } from 'onnx-buf';
import { makeInitializer } from '../graph/build.js';
import { prepareEmbedding } from '../graph/prepare-embedding.js';
import { encodeDetached } from '../onnx/encode-model.js';
import type { OnnxModel } from '../onnx/onnx-model.js';
import { dataTypeOf, type Engine, type Session, type Tensors, type TensorType } from './engine.js';
import { releaseTensors } from './tensor-memory.js';

/**
 * Runs an embedding model in front of a decoder that reads embeddings: together they are a session that takes token ids.
 * Both go when it is released.
 * @throws UnsupportedModelError when the two do not fit; EngineError, ModelFormatError.
 */
export async function putEmbeddingInFront(engine: Engine, decoder: Session, embedding: OnnxModel): Promise<Session> {
  const decoderInputs = decoder.inputs.map(({ name, type, dims }) => {
    return { name, dataType: dataTypeOf(type as TensorType), dims };
  });
  const front = await compile(engine, prepareEmbedding(embedding, { decoderInputs }));
  const made = new Set(front.outputs.map(({ name }) => name));
  const behind = decoder.inputs.filter(({ name }) => !made.has(name));
  const shared = new Set(behind.map(({ name }) => name));
  return {
    inputs: [...front.inputs.filter(({ name }) => !shared.has(name)), ...behind],
    outputs: decoder.outputs,
    async run(feeds, fetches) {
      const embeddings = await front.run(pick(feeds, front));
      try {
        return await decoder.run({ ...pick(feeds, { inputs: behind }), ...embeddings }, fetches);
      } finally {
        releaseTensors(embeddings);
      }
    },
    async release() {
      await front.release();
      await decoder.release();
    },
  };
}

async function compile(engine: Engine, { proto, weights }: OnnxModel): Promise<Session> {
  const graph = proto.graph!;
  const initializer = await Promise.all(
    graph.initializer.map(async (tensor) => {
      const handle = weights.get(tensor.name);
      return handle ? makeInitializer(tensor.name, handle.dataType, handle.dims, await handle.read()) : tensor;
    }),
  );
  const whole = create(ModelProtoSchema, { ...proto, graph: create(GraphProtoSchema, { ...graph, initializer }) });
  const encoded = encodeDetached(whole);
  return engine.load(encoded.bytes, { weights: encoded.weights });
}

const pick = (feeds: Tensors, { inputs }: Pick<Session, 'inputs'>): Tensors =>
  Object.fromEntries(inputs.flatMap(({ name }) => (feeds[name] === undefined ? [] : [[name, feeds[name]]])));
