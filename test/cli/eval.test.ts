import { runWithDouble } from '../support/cli.js';

describe('eval', () => {
  it('measures every text on every model, one at a time', async () => {
    const { calls } = await runWithDouble(
      'eval dense pruned --text a.txt --text b.txt --window-length 128 --stride 64 --windows 4 --bos',
    );
    expect(calls.map(([name, { model, file }]) => [name, model, file])).toEqual([
      ['perplexity', 'dense', 'a.txt'],
      ['perplexity', 'dense', 'b.txt'],
      ['perplexity', 'pruned', 'a.txt'],
      ['perplexity', 'pruned', 'b.txt'],
    ]);
    expect(calls[0]?.[1]).toMatchObject({ windowLength: 128, stride: 64, windowCount: 4, bos: true });
  });

  it('lays models side by side', async () => {
    const { out } = await runWithDouble('eval dense pruned --text a.txt --generate Once');
    expect(out).toBe(
      'perplexity   dense  pruned\na.txt       12.346  12.346\n\ndense\nOnce upon a time\n\npruned\nOnce upon a time\n',
    );
  });

  it('writes without measuring', async () => {
    const { calls } = await runWithDouble('eval dense --generate Once --max-new-tokens 5 --seed 3');
    expect(calls).toMatchObject([['generateText', { prompt: 'Once', maxNewTokens: 5, seed: 3 }]]);
  });
});
