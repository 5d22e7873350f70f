import { create, toBinary } from '@bufbuild/protobuf';
import { GraphProtoSchema, ModelProtoSchema, OperatorSetIdProtoSchema } from 'onnx-buf';
import { makeInt64Initializer, makeNode, makeValueInfo } from '../graph/build.js';
import { dataTypeOf, type Engine, type Tensor } from '../runtime/engine.js';

/** Sums 1 - cos over the tokens of two hidden states of equal size; one may hold `[B, S, C]` and the other `[B S, C]`. */
export interface ChangeMeter {
  measure(before: Tensor, after: Tensor): Promise<number>;
  release(): Promise<void>;
}

/**
 * How much a block changes its input: `FC = 1 - mean over tokens of cos(X_l, X_{l+1})`; this hands out the sum.
 * @see FANG (arXiv 2512.23014), Eq. 8
 */
export async function createChangeMeter(engine: Engine, type: Tensor['type']): Promise<ChangeMeter> {
  const node = (op: string, inputs: string[], output: string, attributes = {}) =>
    makeNode({ op, inputs, outputs: [output], attributes });
  const sumLast = (input: string, output: string) => node('ReduceSum', [input, 'last'], output);
  const model = create(ModelProtoSchema, {
    irVersion: 8n,
    opsetImport: [create(OperatorSetIdProtoSchema, { domain: '', version: 17n })],
    graph: create(GraphProtoSchema, {
      name: 'change',
      node: [
        node('Cast', ['before'], 'a', { to: 1 }),
        node('Cast', ['after'], 'b', { to: 1 }),
        node('Mul', ['a', 'b'], 'ab'),
        node('Mul', ['a', 'a'], 'aa'),
        node('Mul', ['b', 'b'], 'bb'),
        sumLast('ab', 'dot'),
        sumLast('aa', 'a_square'),
        sumLast('bb', 'b_square'),
        node('Mul', ['a_square', 'b_square'], 'square'),
        node('Sqrt', ['square'], 'norms'),
        node('Div', ['dot', 'norms'], 'cosine'),
      ],
      initializer: [makeInt64Initializer('last', [-1])],
      input: ['before', 'after'].map((name) => makeValueInfo(name, dataTypeOf(type))),
      output: [makeValueInfo('cosine', 1)],
    }),
  });
  const session = await engine.load(toBinary(ModelProtoSchema, model));
  return {
    async measure(before, after) {
      const { cosine } = await session.run({ before: byToken(before), after: byToken(after) });
      return (cosine!.data as Float32Array).reduce((sum, value) => sum + 1 - value, 0);
    },
    release: () => session.release(),
  };
}

/** `[tokens, channels]`: some exporters flatten the residual stream on the way. */
function byToken(tensor: Tensor): Tensor {
  const channelCount = tensor.dims.at(-1) ?? 1;
  return { ...tensor, dims: [tensor.data.length / channelCount, channelCount] };
}
