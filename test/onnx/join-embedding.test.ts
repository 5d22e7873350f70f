import { create } from '@bufbuild/protobuf';
import { GraphProtoSchema, type NodeProto, NodeProtoSchema, OperatorSetIdProtoSchema } from 'onnx-buf';
import { UnsupportedModelError } from '../../src/errors.js';
import { createRandom } from '../../src/linalg/random.js';
import {
  makeFloatInitializer,
  makeInitializer,
  makeInt64Initializer,
  makeNode,
  makeValueInfo,
} from '../../src/onnx/build.js';
import { copyModel } from '../../src/onnx/edit-weights.js';
import { joinEmbedding, withoutEmbeddingPrefix } from '../../src/onnx/join-embedding.js';
import { analyseModel } from '../../src/runtime/analyse-model.js';
import { testEngine } from '../support/engine.js';
import { loadShortLlama } from '../support/short-llama.js';
import { load, type SplitLlama, splitShortLlama } from '../support/split-llama.js';
import { bytesOf, runModel, someWindows } from '../support/tiny-llama.js';

/** Joins the two halves of the bundled model after an edit of them. */
async function join(edit: (halves: SplitLlama) => void = () => undefined) {
  const halves = splitShortLlama();
  edit(halves);
  const decoder = await load(halves.decoder);
  return { decoder, joined: joinEmbedding(decoder, await load(halves.embedding)) };
}

const setOpset = (proto: SplitLlama['decoder'], version: number) => {
  proto.opsetImport = [create(OperatorSetIdProtoSchema, { domain: '', version: BigInt(version) })];
};

describe('joinEmbedding', () => {
  const windows = someWindows(2, 9);

  it('makes a decoder that reads token ids, with the logits of the undivided one', async () => {
    const { joined } = await join();
    const { model } = await loadShortLlama();
    expect(joined.proto.graph!.input.map(({ name }) => name)).toEqual(model.proto.graph!.input.map(({ name }) => name));
    expect((await runModel(joined, windows)).logits).toEqual((await runModel(model, windows)).logits);
  });

  it.each([
    [
      'names that both have',
      ({ decoder, embedding }: SplitLlama) => {
        embedding.graph!.node[0]!.name = decoder.graph!.node[0]!.name;
        embedding.graph!.initializer[0]!.name = decoder.graph!.initializer.at(-1)!.name;
        embedding.graph!.node[0]!.input[0] = decoder.graph!.initializer.at(-1)!.name;
      },
    ],
    [
      'names with the prefix of embeddings',
      ({ decoder }: SplitLlama) => {
        for (const node of decoder.graph!.node) node.name = `embedding/${node.name}`;
      },
    ],
    [
      'another name of its output',
      ({ embedding }: SplitLlama) => {
        embedding.graph!.output[0]!.name = embedding.graph!.node[0]!.output[0] = 'embeddings';
      },
    ],
    [
      'nodes without default attributes',
      ({ embedding }: SplitLlama) => {
        const [{ input, output }] = embedding.graph!.node as [NodeProto];
        embedding.graph!.node = [create(NodeProtoSchema, { opType: 'Gather', input, output })];
      },
    ],
    ['another opset in which its operators are the same', ({ embedding }: SplitLlama) => setOpset(embedding, 21)],
    [
      'half precision',
      ({ embedding }: SplitLlama) => {
        const graph = embedding.graph!;
        graph.node = [
          graph.node[0]!,
          makeNode({ op: 'Cast', inputs: ['inputs_embeds'], outputs: ['half'], attributes: { to: 10 } }),
        ];
        graph.output = [makeValueInfo('half', 10, ['batch', 'sequence', 192])];
      },
    ],
  ])('accepts %s', async (_, edit) => {
    const { joined } = await join(edit);
    expect((await analyseModel(joined, testEngine)).detected.layout.modules).toHaveLength(4);
    const { data } = (await runModel(joined, windows)).logits!;
    const expected = (await runModel((await loadShortLlama()).model, windows)).logits!.data as Float32Array;
    const gap = Math.max(...(data as Float32Array).map((value, at) => Math.abs(value - expected[at]!)));
    // Embeddings of half precision have 11 bits.
    expect(gap).toBeLessThan(0.02);
  });

  it('feeds empty tensors to inputs of image features', async () => {
    const { joined } = await join(({ embedding }) => addImages(embedding, ['images', 192]));
    expect(joined.proto.graph!.input.map(({ name }) => name)).not.toContain('image_features');
    expect((await runModel(joined, windows)).logits).toEqual(
      (await runModel((await loadShortLlama()).model, windows)).logits,
    );
  });

  it('accepts a table of 4-bit codes', async () => {
    const { joined } = await join(quantiseTable);
    const { detected } = await analyseModel(joined, testEngine);
    expect(detected.layout.modules).toHaveLength(4);
    const { data } = (await runModel(joined, windows)).logits!;
    expect((data as Float32Array).every(Number.isFinite)).toBe(true);
  });

  it('connects all outputs of the embedding model', async () => {
    const { joined } = await join(({ decoder, embedding }) => {
      decoder.graph!.input.push(makeValueInfo('per_layer_inputs', 7, ['batch', 'sequence']));
      embedding.graph!.node.push(makeNode({ op: 'Identity', inputs: ['input_ids'], outputs: ['per_layer_inputs'] }));
      embedding.graph!.output.push(makeValueInfo('per_layer_inputs', 7, ['batch', 'sequence']));
    });
    expect(joined.proto.graph!.input.filter(({ name }) => /per_layer|embeds/.test(name))).toEqual([]);
    expect(joined.proto.graph!.node.flatMap(({ output }) => output)).toContain('per_layer_inputs');
  });

  it.each<[string, (halves: SplitLlama) => void, RegExp]>([
    [
      'input ids',
      ({ embedding }) => renameInput(embedding, 'pixel_values'),
      /it takes pixel_values, expected input_ids/,
    ],
    ['an embedding input', ({ decoder }) => renameInput(decoder, 'hidden', 'inputs_embeds'), /expected inputs_embeds/],
    [
      'equal widths',
      ({ decoder }) => {
        decoder.graph!.input[0] = makeValueInfo('inputs_embeds', 1, ['batch', 'sequence', 96]);
      },
      /is 192 wide and the decoder's "inputs_embeds" 96/,
    ],
    ['inputs that may be empty', ({ embedding }) => addImages(embedding, [4, 192]), /"image_features" \[4, 192\]/],
    [
      'operators of equal meaning in both opsets',
      ({ embedding }) => {
        embedding.graph!.node[0]!.opType = 'Upsample';
        setOpset(embedding, 9);
      },
      /Upsample.*opset 9.*opset 17.*export both for the same opset/,
    ],
    [
      'straight control flow',
      ({ embedding }) => {
        const node = makeNode({ op: 'If', inputs: ['yes'], outputs: ['inputs_embeds'] });
        const branch = makeNode({ op: 'x', inputs: [], outputs: [], attributes: { then_branch: 1 } }).attribute[0]!;
        branch.g = create(GraphProtoSchema);
        node.attribute = [branch];
        embedding.graph!.node = [node];
      },
      /it has If "inputs_embeds"; export it as one graph without control flow/,
    ],
  ])('refuses models that lack %s', async (_, edit, message) => {
    await expect(join(edit)).rejects.toThrow(UnsupportedModelError);
    await expect(join(edit)).rejects.toThrow(message);
  });
});

describe('withoutEmbeddingPrefix', () => {
  it('restores the decoder byte for byte', async () => {
    const { decoder, joined } = await join();
    const written = await bytesOf(withoutEmbeddingPrefix(copyModel(joined)));
    expect(Buffer.compare(written, await bytesOf(decoder))).toBe(0);
  });

  it('keeps edits of the decoder', async () => {
    const { joined } = await join();
    const copy = copyModel(joined);
    copy.proto.graph!.node.pop();
    copy.proto.graph!.input = copy.proto.graph!.input.map((info) =>
      info.name === 'past_key_values.0.key' ? makeValueInfo(info.name, 1, ['batch', 2, 'past', 24]) : info,
    );
    const { graph } = withoutEmbeddingPrefix(copy).proto;
    expect(graph!.node).toHaveLength(joined.proto.graph!.node.length - 3);
    const [, , , key] = graph!.input;
    expect(key).toEqual(makeValueInfo('past_key_values.0.key', 1, ['batch', 2, 'past', 24]));
  });

  it('does not change a model without an embedding prefix', async () => {
    const { model } = await loadShortLlama();
    expect(withoutEmbeddingPrefix(model)).toEqual(model);
  });
});

/** Gives the embedding model an input for images, whose rows take the places of tokens that are found by their id. */
function addImages({ graph }: SplitLlama['embedding'], dims: readonly (number | string)[]): void {
  graph!.input.push(makeValueInfo('image_features', 1, dims));
  graph!.node[0]!.output = ['text'];
  graph!.initializer.push(makeInt64Initializer('image_token', [2047]));
  graph!.node.push(
    makeNode({ op: 'Equal', inputs: ['input_ids', 'image_token'], outputs: ['is_image'] }),
    makeNode({ op: 'NonZero', inputs: ['is_image'], outputs: ['places'] }),
    makeNode({ op: 'Transpose', inputs: ['places'], outputs: ['turned'] }),
    makeNode({ op: 'ScatterND', inputs: ['text', 'turned', 'image_features'], outputs: ['inputs_embeds'] }),
  );
}

/** Gives the embedding model a table of 4-bit codes, with one scale for 32 columns. */
function quantiseTable({ embedding }: SplitLlama): void {
  const graph = embedding.graph!;
  const random = createRandom(1);
  const table = Uint8Array.from({ length: 2048 * 96 }, () => Math.floor(random() * 256));
  graph.initializer = [
    makeInitializer('bits', 2, [2048, 96], table),
    makeFloatInitializer('scales', [2048, 6], new Float32Array(2048 * 6).fill(0.02)),
  ];
  graph.node = [
    makeNode({
      op: 'GatherBlockQuantized',
      domain: 'com.microsoft',
      inputs: ['bits', 'input_ids', 'scales'],
      outputs: ['inputs_embeds'],
      attributes: { gather_axis: 0, quantize_axis: 1, block_size: 32, bits: 4 },
    }),
  ];
  embedding.opsetImport.push(create(OperatorSetIdProtoSchema, { domain: 'com.microsoft', version: 1n }));
}

function renameInput({ graph }: SplitLlama['decoder'], name: string, from = 'input_ids'): void {
  for (const info of graph!.input) if (info.name === from) info.name = name;
  for (const node of graph!.node) node.input = node.input.map((value) => (value === from ? name : value));
}
