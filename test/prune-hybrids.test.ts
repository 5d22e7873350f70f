import { UnsupportedModelError } from '../src/errors.js';
import type { PruneOptions } from '../src/options.js';
import { checkPruning } from './support/check-pruned.js';
import {
  buildDecoder,
  fusedExperts,
  type Part,
  plainFfn,
  selfAttention,
  shortConvolution,
  VOCABULARY,
} from './support/small-decoder.js';
import { loadTinyLlama } from './support/tiny-llama.js';

/** A block of convolution and FFN, then one of attention and experts. */
const hybrid = (): Uint8Array => {
  const inBlock =
    (first: Part, second: Part): Part =>
    (site, x) =>
      (site.block === 0 ? first : second)(site, x);
  return buildDecoder({
    attention: inBlock(shortConvolution, selfAttention()),
    ffn: inBlock(plainFfn, fusedExperts),
  });
};

describe('a hybrid of convolution, attention, FFN and experts', () => {
  const methods: readonly PruneOptions[] = [
    { sparsity: 0.4, method: 'flap' },
    { sparsity: 0.4 },
    { sparsity: 0.4, method: 'o-fang', grouping: { contextCount: 3 } },
  ];

  it('is described by its modules and its mixer', async () => {
    const { layout } = (await loadTinyLlama(hybrid())).analysed.detected;
    expect(layout.modules.map(({ block, kind }) => [block, kind])).toEqual([
      [0, 'ffn'],
      [1, 'attention'],
      [1, 'experts'],
    ]);
    expect(layout.unrecognised.map(({ block, kind }) => [block, kind])).toEqual([[0, 'mixer']]);
  });

  it.each(methods)(
    'equals the masked original, and remarks on the convolution, which is not pruned: %j',
    async (options) => {
      const { outcome, maskedGap, cacheGap } = await checkPruning(await loadTinyLlama(hybrid()), options, VOCABULARY);
      expect(maskedGap).toBeLessThan(1e-5);
      expect(cacheGap).toBeLessThan(1e-5);
      const smaller = outcome.modules.filter(({ module, keep }) => keep.length < module.unitCount);
      expect(smaller.map(({ module }) => module.kind)).toContain('ffn');
      expect(outcome.remarks).toContainEqual(
        expect.stringMatching(/^block 0 mixer: stays as it is.*CausalConvWithState/),
      );
    },
  );

  it('loses only heads with modules "attention"', async () => {
    const options: PruneOptions = { sparsity: 0.4, method: 'flap', modules: 'attention' };
    const { outcome } = await checkPruning(await loadTinyLlama(hybrid()), options, VOCABULARY);
    expect(outcome.modules.map(({ module }) => module.kind)).toEqual(['attention']);
  });

  it('is refused with modules "attention" if it has only convolutions', async () => {
    const loaded = await loadTinyLlama(buildDecoder({ attention: shortConvolution, ffn: fusedExperts }));
    const options: PruneOptions = { sparsity: 0.4, method: 'flap', modules: 'attention' };
    const pruning = checkPruning(loaded, options, VOCABULARY);
    await expect(pruning).rejects.toThrow(UnsupportedModelError);
    await expect(pruning).rejects.toThrow(/it mixes tokens and is not attention/);
  });
});
