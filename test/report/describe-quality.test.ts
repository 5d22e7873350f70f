import { describeQuality, qualityMetrics } from '../../src/report/describe-quality.js';
import type { QualityReport } from '../../src/report/report-schema.js';

const quality = (dense: number, pruned: number, changeInterval: readonly [number, number]): QualityReport => ({
  perplexity: { dense, pruned, changeInterval },
  divergence: { mean: 0.4567, interval: [0.4, 0.5] },
  top1Agreement: { mean: 0.612, interval: [0.58, 0.64] },
  from: 'text',
  protocol: { tokensSha256: 'ab', windowLength: 128, stride: 128, windowCount: 8, tokenCount: 1016 },
});

it('describes perplexities, agreement and divergence: 0.46 more in ln perplexity is +58 %', () => {
  const found = quality(22.7, 22.7 * Math.exp(0.46), [0.5, 0.66]);
  expect(describeQuality(found)).toBe(
    'The pruned model predicts the next token as well as a guess among 35.96 equally likely ones on 1016 tokens of bundled ' +
      'held-out text; the dense model, among 22.70: perplexity +58 %. Both find the same token likeliest 61 % of the time; the ' +
      'divergence is 0.4567 nats per token.',
  );
});

it('reports no difference within noise, and notes a text that was calibrated on', () => {
  const found = describeQuality(quality(22.7, 22.8, [-0.02, 0.03]), 'quantised');
  expect(found).toMatch(/^The quantised model predicts the next token as well as the dense one on 1016 tokens/);
  expect(found).toContain('no more than noise');
  expect(describeQuality({ ...quality(1, 2, [0.9, 1.1]), from: 'calibration' })).toMatch(/too favourable\.$/);
});

it('returns the figures as metrics of a report', () => {
  const found = qualityMetrics(quality(20, 30, [0.4, 0.6]));
  expect(found.map(({ kind, name, pruned }) => [kind, name, pruned])).toEqual([
    ['perplexity', 'bundled held-out text', 30],
    ['other', 'divergence (KL), bundled held-out text', 0.4567],
    ['accuracy', 'same first choice, bundled held-out text', 0.612],
  ]);
  expect(found[2]!.changeInterval![0]).toBeCloseTo(-0.42, 10);
});
