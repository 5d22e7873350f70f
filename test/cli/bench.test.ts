import { runWithDouble } from '../support/cli.js';

describe('bench', () => {
  it('passes its flags to the API', async () => {
    const { calls } = await runWithDouble(
      'bench dense pruned --prompt-length 64 --new-tokens 8 --rounds 3 --no-probe --embeddings e.onnx --execution-provider cpu',
    );
    expect(calls).toMatchObject([
      [
        'benchmark',
        {
          models: ['dense', 'pruned'],
          promptLength: 64,
          newTokens: 8,
          rounds: 3,
          probe: false,
          embeddings: 'e.onnx',
          executionProvider: ['cpu'],
        },
      ],
    ]);
  });

  it('prints models side by side, with a summary', async () => {
    const { out } = await runWithDouble('bench dense pruned');
    expect(out).toBe(
      [
        '                            dense            pruned',
        'prefill, tokens/s  100 (99.0-101)  1250 (1250-1250)',
        'decode, tokens/s   100 (99.0-101)  1250 (1250-1250)',
        'load                        0.1 s             1.3 s',
        'peak memory               2.00 GB           2.00 GB',
        'file                      40.0 KB           3.20 KB',
        '',
        'pruned compared with dense',
        '  Prefill: faster.',
        '  Decode: faster.',
        '',
        '128 tokens read, 32 written, median and quartiles of 3 rounds; a processor, 2 cores, Node.js v20\n',
      ].join('\n'),
    );
  });
});
