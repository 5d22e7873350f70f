import type { OnnxModel } from '../onnx/onnx-model.js';
import { prepareEmbedding } from '../onnx/prepare-embedding.js';
import { compileModel } from './compile-model.js';
import { dataTypeOf, type Engine, type Session, type Tensors, type TensorType } from './engine.js';
import { releaseTensors } from './tensor-memory.js';

/**
 * Runs an embedding model in front of a decoder that reads embeddings: together they are a session that takes token ids.
 * Releasing it releases both.
 * @throws UnsupportedModelError when the two do not fit; EngineError, ModelFormatError.
 */
export async function prefixEmbedding(engine: Engine, decoder: Session, embedding: OnnxModel): Promise<Session> {
  const decoderInputs = decoder.inputs.map(({ name, type, dims }) => {
    return { name, dataType: dataTypeOf(type as TensorType), dims };
  });
  const prefix = await compileModel(engine, prepareEmbedding(embedding, { decoderInputs }));
  const computed = new Set(prefix.outputs.map(({ name }) => name));
  const fed = decoder.inputs.filter(({ name }) => !computed.has(name));
  const shared = new Set(fed.map(({ name }) => name));
  return {
    inputs: [...prefix.inputs.filter(({ name }) => !shared.has(name)), ...fed],
    outputs: decoder.outputs,
    async run(feeds, fetches) {
      const embeddings = await prefix.run(pick(feeds, prefix));
      try {
        return await decoder.run({ ...pick(feeds, { inputs: fed }), ...embeddings }, fetches);
      } finally {
        releaseTensors(embeddings);
      }
    },
    async release() {
      await prefix.release();
      await decoder.release();
    },
  };
}

const pick = (feeds: Tensors, { inputs }: Pick<Session, 'inputs'>): Tensors =>
  Object.fromEntries(inputs.flatMap(({ name }) => (feeds[name] === undefined ? [] : [[name, feeds[name]]])));
