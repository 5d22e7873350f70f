import { create, toBinary } from '@bufbuild/protobuf';
import {
  GraphProtoSchema,
  ModelProtoSchema,
  type NodeProto,
  OperatorSetIdProtoSchema,
  type ValueInfoProto,
} from 'onnx-buf';
import { EngineError, UnsupportedModelError } from '../../src/errors.js';
import type { Bundle, SequenceScore } from '../../src/evaluation/bundle.js';
import type { LanguageModel } from '../../src/evaluation/language-model.js';
import { createLanguageModel } from '../../src/evaluation/session-language-model.js';
import { makeFloatInitializer, makeInt64Initializer, makeNode, makeValueInfo } from '../../src/onnx/build.js';
import { testEngine } from '../support/engine.js';

interface Dialect {
  readonly tokens: 'int64' | 'int32';
  readonly cache: 'none' | 'separate' | 'packed';
  readonly half?: boolean;
}

const [V, INT32, INT64, FLOAT, HALF] = [8, 6, 7, 1, 10];

/**
 * Builds a decoder of one block whose logits are the running mean of the embeddings read so far: past and present hold
 * the embeddings, so any mistake in feeding the cache, the mask or the positions shows in the logits.
 */
function buildDecoder({ tokens, cache, half = false }: Dialect): Uint8Array {
  const integer = tokens === 'int32' ? INT32 : INT64;
  const state = half ? HALF : FLOAT;
  const past = cache === 'packed' ? 'past_0' : 'past_key_values.0.key';
  const present = cache === 'packed' ? 'present_0' : 'present.0.key';
  const inputs: ValueInfoProto[] = [makeValueInfo('input_ids', integer, ['b', 's'])];
  const outputs: ValueInfoProto[] = [makeValueInfo('logits', state, ['b', 's', V])];
  const nodes: NodeProto[] = [makeNode({ op: 'Gather', inputs: ['embedding', 'input_ids'], outputs: ['embedded'] })];
  if (cache === 'none') {
    nodes.push(makeNode({ op: 'CumSum', inputs: ['embedded', 'axis1'], outputs: ['mixed'] }));
  } else {
    inputs.push(
      makeValueInfo('attention_mask', integer, ['b', 't']),
      makeValueInfo('position_ids', integer, ['b', 's']),
    );
    const dims = cache === 'packed' ? [2, 'b', 1, 'p', V] : ['b', 1, 'p', V];
    inputs.push(makeValueInfo(past, state, dims));
    outputs.push(
      makeValueInfo(
        present,
        state,
        dims.map((dim) => (dim === 'p' ? 't' : dim)),
      ),
    );
    const sequenceAxis = cache === 'packed' ? 3 : 2;
    nodes.push(
      makeNode({ op: 'Unsqueeze', inputs: ['embedded', 'one'], outputs: ['headed'] }),
      makeNode({ op: 'Cast', inputs: ['headed'], outputs: ['key'], attributes: { to: state } }),
      ...(cache === 'packed'
        ? [
            makeNode({ op: 'Unsqueeze', inputs: ['key', 'zero'], outputs: ['half'] }),
            makeNode({ op: 'Concat', inputs: ['half', 'half'], outputs: ['added'], attributes: { axis: 0 } }),
          ]
        : [makeNode({ op: 'Identity', inputs: ['key'], outputs: ['added'] })]),
      makeNode({ op: 'Concat', inputs: [past, 'added'], outputs: [present], attributes: { axis: sequenceAxis } }),
      // One key of all: [b, t, V].
      makeNode({ op: 'Cast', inputs: [present], outputs: ['wide'], attributes: { to: FLOAT } }),
      makeNode({
        op: 'ReduceMax',
        inputs: ['wide'],
        outputs: ['keys'],
        attributes: { keepdims: 0, axes: cache === 'packed' ? [0, 2] : [1] },
      }),
      // The mask scales each key, as long as its length fits; positions pick the row of the running sum.
      makeNode({ op: 'Cast', inputs: ['attention_mask'], outputs: ['mask'], attributes: { to: FLOAT } }),
      makeNode({ op: 'Unsqueeze', inputs: ['mask', 'two'], outputs: ['mask3'] }),
      makeNode({ op: 'Mul', inputs: ['keys', 'mask3'], outputs: ['masked'] }),
      makeNode({ op: 'CumSum', inputs: ['masked', 'axis1'], outputs: ['sums'] }),
      makeNode({ op: 'Cast', inputs: ['position_ids'], outputs: ['positions'], attributes: { to: INT64 } }),
      makeNode({ op: 'Unsqueeze', inputs: ['positions', 'two'], outputs: ['rows'] }),
      makeNode({ op: 'GatherND', inputs: ['sums', 'rows'], outputs: ['mixed'], attributes: { batch_dims: 1 } }),
    );
  }
  nodes.push(makeNode({ op: 'Cast', inputs: ['mixed'], outputs: ['logits'], attributes: { to: state } }));
  const embedding = Float32Array.from({ length: V * V }, (_, at) => ((at * 7) % 11) / 8 - 0.5);
  const graph = create(GraphProtoSchema, {
    name: 'decoder',
    node: nodes,
    input: inputs,
    output: outputs,
    initializer: [
      makeFloatInitializer('embedding', [V, V], embedding),
      makeInt64Initializer('zero', [0]),
      makeInt64Initializer('one', [1]),
      makeInt64Initializer('two', [2]),
      makeInt64Initializer('axis1', [1]),
    ],
  });
  const opset = create(OperatorSetIdProtoSchema, { domain: '', version: 17n });
  return toBinary(ModelProtoSchema, create(ModelProtoSchema, { irVersion: 8n, opsetImport: [opset], graph }));
}

const load = async (dialect: Dialect) =>
  createLanguageModel({ engine: testEngine, session: await testEngine.load(buildDecoder(dialect)) });

const batch = [Int32Array.of(3, 1, 4, 1, 5), Int32Array.of(2, 7, 1, 0, 6)];

/** Bundles that share contexts of several lengths, with continuations of several lengths. */
const bundles: Bundle[] = [
  [Int32Array.of(3, 1, 4, 1, 5), Int32Array.of(3, 1, 6, 6)].map((tokens) => ({ tokens, firstScored: 2 })),
  [Int32Array.of(2, 7, 1, 0, 6), Int32Array.of(2, 7, 1, 3)].map((tokens) => ({ tokens, firstScored: 3 })),
  [{ tokens: Int32Array.of(5, 5), firstScored: 1 }],
];

async function scoreAll(model: LanguageModel): Promise<SequenceScore[]> {
  const scores: SequenceScore[][] = [];
  for await (const batch of model.scoreBundles(bundles)) {
    for (const { index, sequences } of batch) scores[index] = [...sequences];
  }
  return scores.flat();
}

describe('createLanguageModel on the input conventions of exporters', () => {
  const dialects: Dialect[] = [
    { tokens: 'int64', cache: 'none' },
    { tokens: 'int32', cache: 'none' },
    { tokens: 'int64', cache: 'separate' },
    { tokens: 'int32', cache: 'separate' },
    { tokens: 'int64', cache: 'separate', half: true },
    { tokens: 'int32', cache: 'packed' },
    { tokens: 'int64', cache: 'packed', half: true },
  ];

  it.each(dialects)('continues from its cache and scores: %j', async (dialect) => {
    const reference = await load({ tokens: 'int64', cache: 'none' });
    const model = await load(dialect);
    const tolerance = dialect.half === true ? 0.02 : 1e-5;
    expect(model.hasCache).toBe(dialect.cache !== 'none');
    expect(model.vocabularySize).toBe(V);

    const reader = model.createReader();
    await reader.read(batch.map((tokens) => tokens.subarray(0, 2)));
    const stepped = await reader.read(batch.map((tokens) => tokens.subarray(2)));
    const whole = await reference.createReader().read(batch);
    for (const [at, logit] of stepped.entries()) expect(Math.abs(logit - whole[at]!)).toBeLessThan(tolerance);

    const scores = await model.score(batch, 2);
    const expected = await reference.score(batch, 2);
    for (const [at, score] of scores.entries()) expect(Math.abs(score - expected[at]!)).toBeLessThan(tolerance);

    const continued = await scoreAll(model);
    const alone = await scoreAll(reference);
    expect(continued).toHaveLength(alone.length);
    for (const [index, { nll, isGreedy }] of continued.entries()) {
      for (const [at, value] of nll.entries()) expect(Math.abs(value - alone[index]!.nll[at]!)).toBeLessThan(tolerance);
      expect(isGreedy).toBe(alone[index]!.isGreedy);
    }
    await model.release();
    await reference.release();
  });

  it('throws the error of the engine for token ids outside the embedding', async () => {
    const model = await load({ tokens: 'int64', cache: 'none' });
    await expect(model.createReader().read([Int32Array.of(99)])).rejects.toThrow(EngineError);
    await model.release();
  });

  it('refuses graphs that are not text decoders', async () => {
    const graph = create(GraphProtoSchema, {
      name: 'vision',
      node: [makeNode({ op: 'Identity', inputs: ['pixel_values'], outputs: ['logits'] })],
      input: [makeValueInfo('pixel_values', FLOAT, ['b', 3])],
      output: [makeValueInfo('logits', FLOAT, ['b', 3])],
    });
    const opset = create(OperatorSetIdProtoSchema, { domain: '', version: 17n });
    const bytes = toBinary(ModelProtoSchema, create(ModelProtoSchema, { irVersion: 8n, opsetImport: [opset], graph }));
    const session = await testEngine.load(bytes);
    await expect(createLanguageModel({ engine: testEngine, session })).rejects.toThrow(UnsupportedModelError);
    await session.release();
  });
});
