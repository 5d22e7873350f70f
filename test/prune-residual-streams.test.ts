import type { PruneOptions } from '../src/options.js';
import { checkPruning } from './support/check-pruned.js';
import type { GraphBuilder } from './support/graph-builder.js';
import { expectWholeGradients } from './support/measure-curvatures.js';
import { buildDecoder, HIDDEN, layerNorm, NEURONS, type Part, VOCABULARY } from './support/small-decoder.js';
import { type Loaded, loadTinyLlama } from './support/tiny-llama.js';

const [BLOCKS, STREAMS, RANK] = [2, 3, 2];

const matMul = (g: GraphBuilder, x: string, from: number, to: number): string =>
  g.op('MatMul', [x, g.weight([from, to], 0.3)]);

/** Router of AltUp: `count` coefficients, from a hidden state. */
const routed = (g: GraphBuilder, x: string, count: number): string =>
  matMul(g, g.op('Tanh', [matMul(g, layerNorm(g, x), HIDDEN, STREAMS)]), STREAMS, count);

const streamOf = (g: GraphBuilder, streams: string, at: number): string =>
  g.op('Gather', [streams, g.intScalar(at)], { axis: 0 });

/** A gated FFN whose gate passes values above the neurons' mean plus 0.3 standard deviations. */
const sparseFfn: Part = ({ g }, x) => {
  const gate = matMul(g, x, HIDDEN, NEURONS);
  const mean = g.op('ReduceMean', [gate], { axes: [-1] });
  const centred = g.op('Sub', [gate, mean]);
  const variance = g.op('ReduceMean', [g.op('Mul', [centred, centred])], { axes: [-1] });
  const cutoff = g.op('Add', [mean, g.op('Mul', [g.op('Sqrt', [variance]), g.scalar(0.3)])]);
  const active = g.op('Relu', [g.op('Sub', [gate, cutoff])]);
  return matMul(g, g.op('Mul', [active, matMul(g, x, HIDDEN, NEURONS)]), NEURONS, HIDDEN);
};

/** A decoder as Gemma 3n has it: several residual streams `[N, B, S, C]` (AltUp), a low-rank linear layer next to attention (Laurel). */
const buildStreams = (): Uint8Array =>
  buildDecoder({
    blockCount: BLOCKS,
    ffn: sparseFfn,
    before(g, x) {
      const others = Array.from({ length: STREAMS - 1 }, () => matMul(g, x, HIDDEN, HIDDEN));
      const apart = [x, ...others].map((stream) => g.op('Unsqueeze', [stream, g.ints(0)]));
      return g.op('Concat', apart, { axis: 0 });
    },
    compose({ g, ...site }, streams, { attention, ffn }) {
      const mix = g.op('Reshape', [
        routed(g, streamOf(g, streams, 0), STREAMS * STREAMS),
        g.ints(0, 0, STREAMS, STREAMS),
      ]);
      const turned = g.op('Transpose', [streams], { perm: [1, 2, 3, 0] });
      const mixed = g.op('Transpose', [g.op('MatMul', [turned, mix])], { perm: [3, 0, 1, 2] });
      const predicted = g.op('Add', [mixed, streams]);
      const active = streamOf(g, predicted, 0);
      const normed = layerNorm(g, active);
      const laurel = layerNorm(g, matMul(g, matMul(g, normed, HIDDEN, RANK), RANK, HIDDEN));
      const attended = g.op('Add', [active, attention({ g, ...site }, normed)]);
      const both = g.op('Add', [attended, g.op('Add', [normed, laurel])]);
      const fed = g.op('Add', [both, ffn({ g, ...site }, layerNorm(g, both))]);
      const innovation = g.op('Tile', [
        g.op('Unsqueeze', [g.op('Sub', [fed, active]), g.ints(0)]),
        g.ints(STREAMS, 1, 1, 1),
      ]);
      const weights = g.op('Transpose', [routed(g, fed, STREAMS)], { perm: [2, 0, 1] });
      const corrected = g.op('Add', [g.op('Mul', [innovation, g.op('Unsqueeze', [weights, g.ints(-1)])]), predicted]);
      const rest = g.op('Slice', [corrected, g.ints(1), g.ints(STREAMS), g.ints(0)]);
      const scaled = g.op('Mul', [rest, g.scalar(1.1)]);
      const places = g.op('Unsqueeze', [
        g.op('Range', [g.intScalar(1), g.intScalar(STREAMS), g.intScalar(1)]),
        g.ints(-1),
      ]);
      return g.op('ScatterND', [corrected, places, scaled]);
    },
    after(g, streams) {
      const projections = Array.from({ length: STREAMS }, (_, at) => {
        const stream = streamOf(g, streams, at);
        return at === 0 ? stream : matMul(g, stream, HIDDEN, HIDDEN);
      });
      return g.op('Div', [g.op('Sum', projections), g.scalar(STREAMS)]);
    },
  });

let loaded: Loaded;
beforeAll(async () => {
  loaded = await loadTinyLlama(buildStreams());
});

describe('a decoder of several residual streams', () => {
  it('has attention and FFN in each block, and no FFN between the streams', () => {
    const { layout } = loaded.analysed.detected;
    expect(layout.hiddenSize).toBe(HIDDEN);
    expect(layout.modules.map(({ block, kind, unitCount }) => [block, kind, unitCount])).toEqual([
      [0, 'attention', 4],
      [0, 'ffn', NEURONS],
      [1, 'attention', 4],
      [1, 'ffn', NEURONS],
    ]);
    expect(layout.unrecognised.map(({ block, kind }) => [block, kind])).toEqual([
      [0, 'low-rank layer'],
      [1, 'low-rank layer'],
    ]);
  });

  it('has an FFN whose gate is not pruned, since it is reduced over its neurons', () => {
    const { layout } = loaded.analysed.detected;
    const [ffn] = layout.modules.filter(({ kind }) => kind === 'ffn');
    expect(ffn).toMatchObject({ description: 'gated ffn, whole gate', parametersPerUnit: 2 * HIDDEN });
  });

  const METHODS: readonly PruneOptions[] = [
    { sparsity: 0.4, method: 'flap' },
    { sparsity: 0.4 },
    { sparsity: 0.4, method: 'magnitude', modules: 'attention' },
  ];

  it.each(METHODS)('equals the masked original: %j', async (options) => {
    const { outcome, maskedGap, cacheGap } = await checkPruning(loaded, options, VOCABULARY);
    expect(maskedGap).toBeLessThan(1e-5);
    expect(cacheGap).toBeLessThan(1e-5);
    const smaller = outcome.modules.filter(({ module, keep }) => keep.length < module.unitCount);
    expect(smaller.length).toBeGreaterThan(1);
  });

  it('has the same gradients block by block as of the entire model', () => expectWholeGradients(loaded, VOCABULARY));
});
