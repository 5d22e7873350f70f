import { readModelInputs } from '../src/onnx/model-inputs.js';
import type { PruneOptions } from '../src/options.js';
import { describeModel } from '../src/report/describe-model.js';
import { checkPruning } from './support/check-pruned.js';
import { linearAttention } from './support/linear-attention.js';
import { buildDecoder, type Part, selfAttention, VOCABULARY } from './support/small-decoder.js';
import { loadTinyLlama } from './support/tiny-llama.js';

/** A block with linear attention, then one with softmax attention. */
const hybrid = (form: 'fused' | 'apart'): Uint8Array => {
  const attention: Part = (site, x) => (site.block === 0 ? linearAttention(form) : selfAttention())(site, x);
  return buildDecoder({ attention });
};

const RUNS: readonly PruneOptions[] = [
  { sparsity: 0.5, method: 'flap', modules: 'attention' },
  { sparsity: 0.5, modules: 'attention' },
  { sparsity: 0.5, method: 'obc', modules: 'attention', headUnit: 'query' },
];

describe.each(['fused', 'apart'] as const)('linear attention, %s', (form) => {
  const loading = loadTinyLlama(hybrid(form));

  it('is described by its value heads and key heads', async () => {
    const { model, analysed } = await loading;
    const { blocks, unrecognised } = describeModel('hybrid', model, analysed);
    expect(unrecognised).toEqual([]);
    expect(blocks.map(({ modules }) => modules.map(({ kind }) => kind))).toEqual([
      ['attention', 'ffn'],
      ['attention', 'ffn'],
    ]);
    expect(blocks[0]!.modules[0]).toMatchObject({
      description: 'linear attention',
      heads: 4,
      keyHeads: 2,
      headSize: 4,
      // Projections of 32 channels, values' gate, two gates by head, convolution, biases and scales of heads, output projection.
      parameters: 16 * 32 + 16 * 16 + 2 * 16 * 4 + 32 * 4 + 2 * 4 + 16 * 16,
    });
    expect(blocks[1]!.modules[0]).toMatchObject({ description: 'multi-head attention', heads: 4 });
  });

  it.each(RUNS)('equals the masked original, and computes the same from its states: %j', async (options) => {
    const { outcome, maskedGap, cacheGap } = await checkPruning(await loading, options, VOCABULARY);
    expect(maskedGap).toBeLessThan(1e-5);
    expect(cacheGap).toBeLessThan(1e-5);
    const [linear] = outcome.modules;
    expect(linear).toMatchObject({ module: { block: 0, attentionType: 'linear' }, keep: { length: 2 } });
    const states = readModelInputs(outcome.model.proto.graph!).filter(({ role }) => role === 'state');
    const channels = options.headUnit === 'query' ? 2 * 8 + 8 : 2 * 4 + 8;
    expect(states.map(({ dims }) => dims)).toEqual([
      ['batch', channels, 2],
      ['batch', 2, 4, 4],
    ]);
  });
});
