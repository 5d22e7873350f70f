import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { EngineError, UnsupportedModelError } from '../src/errors.js';
import { runForLogits } from '../src/evaluation/compare-logits.js';
import { createLanguageModel } from '../src/evaluation/session-language-model.js';
import { prune } from '../src/node.js';
import type { PruneOptions } from '../src/options.js';
import { checkPruning } from './support/check-pruned.js';
import { testEngine } from './support/engine.js';
import {
  type BlockSite,
  buildDecoder,
  HEAD_SIZE,
  HEADS,
  type Heads,
  selfAttention,
  separate,
  VOCABULARY,
} from './support/small-decoder.js';
import { useTemporaryFolder } from './support/temporary-folder.js';
import { loadTinyLlama, relativeGap, runModel } from './support/tiny-llama.js';

const folder = useTemporaryFolder();

/** A decoder that computes rotary angles for one window, as torch exports it at opset 23 without position ids. */
function oneRowOfAngles(): Uint8Array {
  const project = (site: BlockSite, x: string): Heads => {
    const { g, rows } = site;
    const rates = g.floats([1, HEAD_SIZE / 2], [1, 0.3]);
    const angles = g.op('Unsqueeze', [
      g.op('Mul', [g.op('Unsqueeze', [g.op('Cast', [rows], { to: 1 }), g.ints(1)]), rates]),
      g.ints(0),
    ]);
    const tables = [g.op('Cos', [angles]), g.op('Sin', [angles])];
    const rotate = (value: string) => g.op('RotaryEmbedding', [value, ...tables]);
    const heads = separate(HEADS)(site, x);
    return { ...heads, query: rotate(heads.query), key: rotate(heads.key) };
  };
  return buildDecoder({ attention: selfAttention({ project }), opset: 23 });
}

const WINDOWS = Array.from({ length: 3 }, (_, window) =>
  Int32Array.from({ length: 10 }, (_, at) => (window * 17 + at * at * 7 + at * 3) % VOCABULARY),
);

describe('a model that ONNX Runtime runs one window at a time', () => {
  const methods: readonly PruneOptions[] = [
    { sparsity: 0.4, method: 'flap', modules: 'all' },
    { sparsity: 0.4, modules: 'all' },
    { sparsity: 0.4, method: 'o-fang', modules: 'ffn', grouping: { contextCount: 3 } },
  ];

  it.each(methods)('is pruned in batches: %j', async (options) => {
    const loaded = await loadTinyLlama(oneRowOfAngles());
    await expect(runModel(loaded.model, WINDOWS)).rejects.toThrow(EngineError);
    const { outcome, maskedGap, cacheGap } = await checkPruning(loaded, options, VOCABULARY);
    expect(maskedGap).toBeLessThan(1e-5);
    expect(cacheGap).toBeLessThan(1e-5);
    expect(outcome.modules.some(({ module, keep }) => keep.length < module.unitCount)).toBe(true);
  });

  it('is pruned from a folder, on windows that it generates', async () => {
    const model = join(folder(), 'in/lone.onnx');
    await mkdir(join(folder(), 'in'));
    await writeFile(model, oneRowOfAngles());
    const calibration = { generate: { startToken: 1 }, windowCount: 3, windowLength: 12 };
    const run = { model, out: join(folder(), 'out'), sparsity: 0.3, method: 'flap', calibration } as const;
    const { certificate, calibration: used } = await prune(run);
    expect(used!.generated).toMatchObject({ windowCount: 3 });
    expect(certificate).toMatchObject({ opened: true });
  });

  it('is scored window by window', async () => {
    const model = await createLanguageModel({ engine: testEngine, session: await testEngine.load(oneRowOfAngles()) });
    expect(model.rowLimit).toBe(1);
    const together = await model.score(WINDOWS, 3);
    const apart = [];
    for (const window of WINDOWS) apart.push(...(await model.score([window], 3)));
    expect([...together]).toEqual(apart);
    const logits = await model.readLogits(WINDOWS);
    expect(logits.dims).toEqual([3, 10, VOCABULARY]);
    const { data } = await model.readLogits([WINDOWS[2]!]);
    expect(relativeGap(logits.data.slice(20 * VOCABULARY), data)).toBe(0);
    await model.release();
  });
});

describe('a graph with a batch size of 1', () => {
  const load = () => loadTinyLlama(buildDecoder({ batchSize: 1 }));

  it.each<PruneOptions>([
    { sparsity: 0.4, method: 'flap' },
    { sparsity: 0.4 },
    { sparsity: 0.4, method: 'o-fang', modules: 'ffn', grouping: { contextCount: 3 } },
  ])('loses the same units as the graph with a symbolic batch size: %j', async (options) => {
    const { outcome, maskedGap, cacheGap } = await checkPruning(await load(), options, VOCABULARY);
    const open = await checkPruning(await loadTinyLlama(buildDecoder()), options, VOCABULARY);
    expect(outcome.modules.map(({ keep }) => keep)).toEqual(open.outcome.modules.map(({ keep }) => keep));
    expect(maskedGap).toBeLessThan(1e-5);
    expect(cacheGap).toBeLessThan(1e-5);
  });

  it('has the logits of the graph with a symbolic batch size', async () => {
    const { model, analysed } = await load();
    const found = await runForLogits({ model, analysed, engine: testEngine, windows: WINDOWS });
    const open = await loadTinyLlama(buildDecoder());
    const expected = await runForLogits({ ...open, engine: testEngine, windows: WINDOWS });
    expect(relativeGap(found, expected)).toBeLessThan(1e-6);
  });

  it.each([
    [{ batchSize: 4 }, /"input_ids" has dims \[4, sequence\].*exactly 4 windows together/],
    [{ windowLength: 1 }, /\[batch, 1\]: the graph takes one token at a time.*open sequence length/],
    [{ windowLength: 128 }, /\[batch, 128\]: the graph takes exactly 128 tokens/],
  ])('is refused with other fixed sizes: %j', async (shape, message) => {
    const loading = loadTinyLlama(buildDecoder(shape));
    await expect(loading).rejects.toThrow(UnsupportedModelError);
    await expect(loading).rejects.toThrow(message);
  });
});
