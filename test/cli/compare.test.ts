import { runWithDouble } from '../support/cli.js';

describe('compare', () => {
  it('passes its flags to the API', async () => {
    const { calls, exitCode } = await runWithDouble('compare a.json b.jsonl --confidence 90% --resamples 500 --seed 2');
    expect(exitCode).toBe(0);
    expect(calls).toEqual([
      ['compareFiles', { files: ['a.json', 'b.jsonl'], confidence: 0.9, resampleCount: 500, seed: 2 }],
    ]);
  });

  it('prints a table of figures, with a summary', async () => {
    const accNorm = { a: 0.663, b: 0.61, difference: -0.053, interval: [-0.087, -0.02], pValue: 0.0021 } as const;
    const comparison = {
      kind: 'task',
      file: 'piqa.jsonl',
      a: 'dense',
      b: 'pruned',
      itemCount: 300,
      confidence: 0.95,
      accNorm: { ...accNorm, onlyA: 24, onlyB: 8 },
      acc: { ...accNorm, onlyA: 24, onlyB: 8 },
      goldNll: { a: 60, b: 61.5, difference: 1.5, interval: [1.2, 1.8], pValue: 0.0002 },
      verdict: 'worse',
      deciding: ['accNorm', 'acc', 'goldNll'],
      summary: 'B is worse by 5.3 points of acc_norm (95 % interval 2.0 to 8.7).',
    } as const;
    const { out } = await runWithDouble('compare a.json b.json', { compareFiles: async () => [comparison] });
    expect(out).toBe(
      [
        'piqa.jsonl, 300 items: dense (A) and pruned (B)',
        '                                A       B  B - A   95 % interval        p',
        'acc_norm, %                  66.3    61.0   -5.3    -8.7 to -2.0    0.002',
        'acc, %                       66.3    61.0   -5.3    -8.7 to -2.0    0.002',
        '-ln p of the right answer  60.000  61.500  1.500  1.200 to 1.800  < 0.001',
        'B is worse by 5.3 points of acc_norm (95 % interval 2.0 to 8.7).\n',
      ].join('\n'),
    );
  });
});
