import { DTYPE_REPORT, runWithDouble } from '../support/cli.js';

describe('fang-prune quantize', () => {
  it('passes its flags to the API', async () => {
    const { calls, exitCode } = await runWithDouble(
      'quantize model -o out --dtype q4,fp16 --block-size 64 --symmetric',
    );
    expect(exitCode).toBe(0);
    expect(calls[0]).toMatchObject([
      'quantize',
      { model: 'model', out: 'out', dtype: ['q4', 'fp16'], blockSize: 64, symmetric: true },
    ]);
  });

  it('prints the written files, and the divergence by rounding', async () => {
    const { out } = await runWithDouble('quantize model -o out --dtype q4');
    expect(out).toMatch(/Quantised tiny-llama|Quantised .* -> out/);
    expect(out).toContain(DTYPE_REPORT.file);
    expect(out).toContain('q4: 40 of 42 linear layers were rounded with error feedback');
    expect(out).toContain(
      'q4: divergence from the dense model 0.3100 nats per token by pruning, 0.0520 more by rounding, on 2 windows; rounding to nearest would add 0.1200.',
    );
  });

  it('estimates in a dry run, and rounds only for a report', async () => {
    const { calls, out } = await runWithDouble('quantize dense --dtype q4 --windows 2 --dry-run');
    expect(calls).toMatchObject([
      ['plan', { model: 'dense', sparsity: 0, dtype: ['q4'], calibration: { windowCount: 2 } }],
    ]);
    expect(out).toMatch(/^Would quantise dense \(11\.6 MB before\)\n/);
    expect(out).toContain('It would take about 3 min 3 s here');
    const reported = await runWithDouble('quantize dense --dtype q4 --dry-run --report report.json');
    expect(reported.calls).toMatchObject([['quantize', { dryRun: true, report: 'report.json' }]]);
  });

  it('refuses an unknown dtype, and suggests the nearest', async () => {
    const { err, exitCode } = await runWithDouble('quantize model -o out --dtype q4f15');
    expect(exitCode).toBe(2);
    expect(err).toContain(
      '--dtype is "q4f15"; expected one of fp32, fp16, q8, int8, uint8, q4, q4f16, bnb4, q2, q2f16 (did you mean "q4f16"?)',
    );
  });
});
