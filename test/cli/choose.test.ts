import { type MeasuredChoice, recommend } from '../../src/cli/choose.js';
import { BENCHMARK_REPORT, PRUNE_REPORT, runWithDouble } from '../support/cli.js';

const [speed] = BENCHMARK_REPORT.models;
const sized = (out: string, after: number) => ({ ...PRUNE_REPORT, out, bytes: { before: 400e6, after } });

it('makes q8, q4 and sizes around them, measures all on the text, and recommends the smallest that loses little', async () => {
  const bits = [1, 1.001, 1.015, 1.008, 1.019, 1.2];
  const { calls, out } = await runWithDouble('choose dense -o sizes -t mine.txt --test other.txt', {
    quantize: async ({ out: to, dtype }) => sized(to!, dtype === 'q8' ? 160e6 : 90e6),
    shrink: async ({ out: to, targetSize }) =>
      [targetSize!].flat().map((size) => sized(`${to}/${size}`, Number(size) - 1000)) as never,
    evaluateModels: async ({ models }) =>
      models.map((model, at) => ({
        ...{ model, divergence: [], tasks: [] },
        perplexity: [{ text: 'other.txt', bitsPerByte: bits[at]! } as never],
      })),
    benchmark: async ({ models }) => ({
      ...BENCHMARK_REPORT,
      models: models.map((model) => ({ ...speed!, model })),
    }),
  });
  expect(calls.map(([name]) => name)).toEqual(['quantize', 'quantize', 'shrink', 'evaluateModels', 'benchmark']);
  // Rounding to eight bits refuses a calibration, which would have no effect.
  expect(calls[0]![1]).toMatchObject({ dtype: 'q8', out: 'sizes/q8' });
  expect(calls[0]![1]).not.toHaveProperty('calibration');
  expect(calls[1]![1]).toMatchObject({ dtype: 'q4', out: 'sizes/q4', calibration: { source: { file: 'mine.txt' } } });
  expect(calls[2]![1]).toMatchObject({ targetSize: [120e6, 81e6, 72e6], text: 'mine.txt', out: 'sizes' });
  expect(calls[3]![1]).toMatchObject({
    models: ['dense', 'sizes/q8', 'sizes/q4', 'sizes/120000000', 'sizes/81000000', 'sizes/72000000'],
    texts: ['other.txt'],
  });
  expect(out).toMatch(/\* +81000000 +81\.0 MB +1\.0190 +1\.9 %/);
  expect(out).toContain('Take sizes/81000000: the smallest that loses at most 2 % of bits per byte.');
});

it('recommends what loses least where all lose too much', () => {
  const model = (name: string, bytes: number, bitsPerByte: number): MeasuredChoice => ({
    ...{ name, model: name, bytes, bitsPerByte, tokensPerSecond: 1, firstTokenMs: 1 },
  });
  const models = [model('dense', 9, 1), model('q8', 5, 1.1), model('q4', 3, 1.2)];
  expect(recommend(models, 0.02).name).toBe('q8');
  expect(recommend(models, 0.15).name).toBe('q8');
  expect(recommend(models, 0.3).name).toBe('q4');
});

it('asks for a text', async () => {
  const { err } = await runWithDouble('choose dense -o sizes');
  expect(err).toContain('--text is missing');
  const { out } = await runWithDouble('choose --help');
  expect(out).toMatch(/that models are made\s+by\n/);
});
