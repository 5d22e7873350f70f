import type { OnnxModel } from '../onnx/onnx-model.js';
import { prepareEmbedding } from '../onnx/prepare-embedding.js';
import { compileModel } from './compile-model.js';
import { dataTypeOf, type Engine, type Session, type Tensors, type TensorType } from './engine.js';
import { releaseTensors } from './tensor-memory.js';

/**
 * Runs an embedding model in front of a decoder that reads embeddings: together they are a session that takes token ids.
 * Both go when it is released.
 * @throws UnsupportedModelError when the two do not fit; EngineError, ModelFormatError.
 */
export async function prefixEmbedding(engine: Engine, decoder: Session, embedding: OnnxModel): Promise<Session> {
  const decoderInputs = decoder.inputs.map(({ name, type, dims }) => {
    return { name, dataType: dataTypeOf(type as TensorType), dims };
  });
  const front = await compileModel(engine, prepareEmbedding(embedding, { decoderInputs }));
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

const pick = (feeds: Tensors, { inputs }: Pick<Session, 'inputs'>): Tensors =>
  Object.fromEntries(inputs.flatMap(({ name }) => (feeds[name] === undefined ? [] : [[name, feeds[name]]])));
