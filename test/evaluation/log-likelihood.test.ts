import { OptionError } from '../../src/errors.js';
import { measureLogLikelihoods } from '../../src/evaluation/log-likelihood.js';
import { createFakeModel } from './fake-model.js';
import { loadTinyLlama, tinyLlamaTokenizer } from './tiny-llama.js';

describe('measureLogLikelihoods', () => {
  it('returns results in the order of the pairs, equal to separate measurements', async () => {
    const model = await loadTinyLlama();
    const pairs = [
      { context: '4 + 5 =', continuation: ' 9' },
      { context: 'The river', continuation: ' runs' },
      { context: '4 + 5 =', continuation: ' 8' },
    ];
    const options = { tokenizer: tinyLlamaTokenizer };
    const together = await measureLogLikelihoods(model, pairs, options);
    for (const [at, pair] of pairs.entries()) {
      const [alone] = await measureLogLikelihoods(model, [pair], options);
      expect(together[at]!.logLikelihood).toBeCloseTo(alone!.logLikelihood, 4);
      expect(together[at]).toMatchObject({ isGreedy: alone!.isGreedy, tokenCount: alone!.tokenCount });
    }
    const whole = tinyLlamaTokenizer.encode('4 + 5 = 9');
    const nll = await model.score([whole], whole.length - together[0]!.tokenCount);
    expect(together[0]!.logLikelihood).toBeCloseTo(-nll.reduce((sum, value) => sum + value, 0), 4);
    await model.release();
  });

  it('names the pair that cannot be encoded', async () => {
    const { model } = createFakeModel(2048, () => Array(2048).fill(0));
    const pairs = [
      { context: 'a', continuation: ' b' },
      { context: 'a', continuation: '' },
    ];
    const attempt = () => measureLogLikelihoods(model, pairs, { tokenizer: tinyLlamaTokenizer });
    await expect(attempt).rejects.toThrow(OptionError);
    await expect(attempt).rejects.toThrow(/^pair 1: /);
  });
});
