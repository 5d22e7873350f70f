import type { PruneOptions } from '../src/options.js';
import { checkPruning } from './support/check-pruned.js';
import type { GraphBuilder } from './support/graph-builder.js';
import { measureCurvatures } from './support/measure-curvatures.js';
import { buildDecoder, HIDDEN, linear, type Part, VOCABULARY } from './support/small-decoder.js';
import { type Loaded, loadTinyLlama, relativeGap } from './support/tiny-llama.js';

/** Tokens of a chunk: at least those of the windows for analysis, and fewer than those of calibration windows. */
const CHUNK = 8;

/** Cumulative sums over the tokens, `[B, S, C]`: at once, or by chunks, each starting from the sum of those before. */
type Scan = (g: GraphBuilder, x: string) => string;

const atOnce: Scan = (g, x) => g.op('CumSum', [x, g.intScalar(1)]);

/** Pads the tokens to whole chunks, as exporters of Mamba 2 write the scan. */
const inChunks: Scan = (g, x) => {
  const chunk = g.intScalar(CHUNK);
  const length = g.op('Gather', [g.op('Shape', [x]), g.intScalar(1)], { axis: 0 });
  const rest = g.op('Sub', [chunk, g.op('Mod', [length, chunk])]);
  const missing = g.op('Mod', [rest, chunk]);
  const count = g.op('Div', [g.op('Add', [length, missing]), chunk]);
  const list = (value: string) => g.op('Unsqueeze', [value, g.ints(0)]);
  const pads = g.op('Concat', [g.ints(0, 0, 0, 0), list(missing), g.ints(0)], { axis: 0 });
  const padded = g.op('Pad', [x, pads]);
  const chunks = g.op('Reshape', [
    padded,
    g.op('Concat', [g.ints(0), list(count), g.ints(CHUNK, HIDDEN)], { axis: 0 }),
  ]);
  const within = g.op('CumSum', [chunks, g.intScalar(2)]);
  const sums = g.op('ReduceSum', [chunks, g.ints(2)]);
  const before = g.op('CumSum', [sums, g.intScalar(1)], { exclusive: 1 });
  const whole = g.op('Reshape', [g.op('Add', [within, before]), g.ints(0, -1, HIDDEN)]);
  return g.op('Slice', [whole, g.ints(0), list(length), g.ints(1)]);
};

/** A gated scan in place of attention. */
const mixer =
  (scan: Scan): Part =>
  ({ g }, x) => {
    const gate = g.op('Sigmoid', [linear(g, x, HIDDEN, HIDDEN)]);
    const summed = scan(g, g.op('Tanh', [linear(g, x, HIDDEN, HIDDEN)]));
    return linear(g, g.op('Mul', [gate, summed]), HIDDEN, HIDDEN);
  };

const load = (scan: Scan): Promise<Loaded> => loadTinyLlama(buildDecoder({ attention: mixer(scan) }));

let loaded: Loaded;
beforeAll(async () => {
  loaded = await load(inChunks);
});

describe('a decoder with a scan in chunks', () => {
  it('has blocks with an FFN and a mixer, which is not pruned', () => {
    const { modules, unrecognised } = loaded.analysed.detected.layout;
    expect(modules.map(({ block, kind }) => [block, kind])).toEqual([
      [0, 'ffn'],
      [1, 'ffn'],
    ]);
    expect(unrecognised.map(({ block, kind }) => [block, kind])).toEqual([
      [0, 'mixer'],
      [1, 'mixer'],
    ]);
  });

  const METHODS: readonly PruneOptions[] = [{ sparsity: 0.4, method: 'flap' }, { sparsity: 0.4 }];

  it.each(METHODS)('equals the masked original: %j', async (options) => {
    const { outcome, maskedGap } = await checkPruning(loaded, options, VOCABULARY);
    expect(maskedGap).toBeLessThan(1e-5);
    expect(outcome.modules.filter(({ module, keep }) => keep.length < module.unitCount).length).toBeGreaterThan(0);
  });

  it('has the curvatures of the same model with one scan over all tokens', async () => {
    const windows = Array.from({ length: 2 }, (_, window) =>
      Int32Array.from({ length: 2 * CHUNK + 3 }, (_, at) => (window * 17 + at * at * 7 + at * 3) % VOCABULARY),
    );
    const found = await measureCurvatures(loaded, windows);
    const expected = await measureCurvatures(await load(atOnce), windows);
    expect(found).toHaveLength(2);
    for (const [at, matrix] of found.entries()) expect(relativeGap(matrix, expected[at]!)).toBeLessThan(1e-4);
  });
});
