import { createLanguageModel } from '../src/evaluation/session-language-model.js';
import type { PruneOptions } from '../src/options.js';
import { testEngine } from './support/engine.js';
import type { GraphBuilder } from './support/graph-builder.js';
import { buildDecoder, VOCABULARY } from './support/small-decoder.js';
import { bytesOf, loadTinyLlama, pruneLoaded, relativeGap } from './support/tiny-llama.js';

type TakeLast = (g: GraphBuilder, x: string) => string;

/** How exporters take the last token before the LM head. */
const FORMS: Readonly<Record<string, TakeLast>> = {
  'Gather and Unsqueeze': (g, x) => g.op('Unsqueeze', [g.op('Gather', [x, g.intScalar(-1)], { axis: 1 }), g.ints(1)]),
  'Gather by a list': (g, x) => g.op('Gather', [x, g.ints(-1)], { axis: 1 }),
  Slice: (g, x) => g.op('Slice', [x, g.ints(-1), g.ints(Number.MAX_SAFE_INTEGER), g.ints(1)]),
};

const WINDOWS = Array.from({ length: 3 }, (_, window) =>
  Int32Array.from({ length: 10 }, (_, at) => (window * 17 + at * at * 7 + at * 3) % VOCABULARY),
);

const METHODS: readonly PruneOptions[] = [
  { sparsity: 0.4 },
  { sparsity: 0.4, method: 'o-fang', modules: 'ffn', grouping: { contextCount: 3 } },
];

const prune = async (bytes: Uint8Array, options: PruneOptions) =>
  pruneLoaded(await loadTinyLlama(bytes), options, { windows: WINDOWS });

const open = async (bytes: Uint8Array) =>
  createLanguageModel({ engine: testEngine, session: await testEngine.load(bytes) });

describe.each(Object.entries(FORMS))('a graph with logits of the last token only, by %s', (_, takeLast) => {
  it.each(METHODS)('loses the same units as the graph with all logits: %j', async (options) => {
    const [whole, last] = [await prune(buildDecoder(), options), await prune(buildDecoder({ takeLast }), options)];
    expect(last.modules.map(({ keep }) => keep)).toEqual(whole.modules.map(({ keep }) => keep));
    expect(last.modules.some(({ module, keep }) => keep.length < module.unitCount)).toBe(true);
    const [all, one] = [await open(await bytesOf(whole.model)), await open(await bytesOf(last.model))];
    const expected = await all.createReader().read(WINDOWS);
    expect(relativeGap(await one.createReader().read(WINDOWS), expected)).toBeLessThan(1e-5);
    await Promise.all([all.release(), one.release()]);
  });
});

describe('a language model with logits of the last token only', () => {
  it('has the scores and logits of the one with all logits', async () => {
    const [all, one] = [await open(buildDecoder()), await open(buildDecoder({ takeLast: FORMS.Slice! }))];
    expect(relativeGap(await one.score(WINDOWS, 3), await all.score(WINDOWS, 3))).toBeLessThan(1e-5);
    const [expected, actual] = [await all.readLogits(WINDOWS), await one.readLogits(WINDOWS)];
    expect(actual.dims).toEqual(expected.dims);
    expect(relativeGap(actual.data, expected.data)).toBeLessThan(1e-5);
    const bundle = [WINDOWS[0]!, Int32Array.from([...WINDOWS[0]!.subarray(0, 6), 3, 4])].map((tokens) => ({
      tokens,
      firstScored: 5,
    }));
    const scores = [];
    for (const model of [all, one])
      for await (const [batch] of model.scoreBundles([bundle]))
        scores.push(batch!.sequences.flatMap(({ nll }) => [...nll]));
    expect(relativeGap(scores[1]!, scores[0]!)).toBeLessThan(1e-5);
    await Promise.all([all.release(), one.release()]);
  });
});
