import { EngineError } from '../src/errors.js';
import { createLanguageModel } from '../src/evaluation/session-language-model.js';
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
import { loadTinyLlama, relativeGap, runModel } from './support/tiny-llama.js';

/** A decoder that makes the rotary angles of one window, as torch exports it at opset 23 without position ids. */
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

  it.each(methods)('is pruned in batches all the same: %j', async (options) => {
    const loaded = await loadTinyLlama(oneRowOfAngles());
    await expect(runModel(loaded.model, WINDOWS)).rejects.toThrow(EngineError);
    const { outcome, maskedGap, cacheGap } = await checkPruning(loaded, options, VOCABULARY);
    expect(maskedGap).toBeLessThan(1e-5);
    expect(cacheGap).toBeLessThan(1e-5);
    expect(outcome.modules.some(({ module, keep }) => keep.length < module.unitCount)).toBe(true);
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
