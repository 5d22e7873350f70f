import { fromBinary } from '@bufbuild/protobuf';
import { type GraphProto, ModelProtoSchema } from 'onnx-buf';
import { outputAddedCache } from '../../src/onnx/output-added-cache.js';
import { shareHeads } from '../../src/onnx/share-heads.js';
import { buildDecoder, repeatHeads, selfAttention, separate } from '../support/small-decoder.js';

const graphOf = (bytes: Uint8Array): GraphProto => fromBinary(ModelProtoSchema, bytes).graph!;

const shared = (opset: number) =>
  graphOf(buildDecoder({ attention: selfAttention({ project: separate(2), spread: repeatHeads(2) }), opset }));

const count = ({ node }: GraphProto, opType: string) => node.filter((found) => found.opType === opType).length;

describe('outputAddedCache', () => {
  it('outputs the added part of each cache, and reads recent tokens as separate inputs', () => {
    const graph = outputAddedCache(shared(17));
    const caches = ['key', 'value'].flatMap((kind) => [0, 1].map((block) => `${block}.${kind}`)).toSorted();
    const named = (values: readonly { readonly name: string }[], pattern: RegExp) =>
      values.flatMap(({ name }) => pattern.exec(name)?.[1] ?? []).toSorted();
    expect(named(graph.output, /^present\.(.*)\/added$/)).toEqual(caches);
    expect(named(graph.input, /^past_key_values\.(.*)\/recent$/)).toEqual(caches);
    expect(named(graph.output, /^present\.([^/]*)$/)).toEqual([]);
  });

  it('concatenates both parts of a cache and new tokens in one node', () => {
    const { node } = shareHeads(outputAddedCache(shared(17)));
    const joining = node.filter(({ opType, input }) => opType === 'Concat' && input[0]!.startsWith('past_key_values'));
    expect(joining).toHaveLength(4);
    for (const { input } of joining) expect(input.slice(0, 2)).toEqual([input[0], `${input[0]}/recent`]);
  });

  it('returns a graph without a cache unchanged', () => {
    const graph = shared(17);
    const without = { ...graph, input: graph.input.filter(({ name }) => !name.startsWith('past')) };
    expect(outputAddedCache(without)).toBe(without);
  });
});

describe('shareHeads', () => {
  it('removes the Expand of keys and values to query heads', () => {
    const graph = shared(17);
    expect(count(graph, 'Expand')).toBe(4);
    expect(count(shareHeads(graph), 'Expand')).toBe(0);
  });

  it('keeps an Expand after an Unsqueeze of another axis', () => {
    const graph = graphOf(
      buildDecoder({
        attention: selfAttention({
          project: separate(2),
          spread(g, x) {
            const expanded = g.op('Expand', [g.op('Unsqueeze', [x, g.ints(1)]), g.ints(1, 2, 1, 1, 1)]);
            return g.op('Reshape', [expanded, g.ints(0, 4, -1, 4)]);
          },
        }),
      }),
    );
    expect(count(shareHeads(graph), 'Expand')).toBe(4);
  });
});
