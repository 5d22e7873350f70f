import { describeChange } from '../../src/report/describe-change.js';
import type { MetricReport } from '../../src/report/report-schema.js';

const perplexity: MetricReport = { kind: 'perplexity', name: 'a', dense: 10, pruned: 11, better: 'lower' };
const accuracy: MetricReport = { kind: 'accuracy', name: 'a', dense: 0.6, pruned: 0.58, better: 'higher' };

it.each<[string, MetricReport]>([
  ['+10.0 %', perplexity],
  ['+10.0 % (+5.0 to +15.0 %), worse', { ...perplexity, changeInterval: [0.05, 0.15] }],
  ['+10.0 % (−1.0 to +21.0 %), no more than noise', { ...perplexity, changeInterval: [-0.01, 0.21] }],
  ['+10.0 %, no more than noise', { ...perplexity, verdict: 'same' }],
  ['−2.0 points', accuracy],
  ['−2.0 points (−3.0 to −1.0), worse', { ...accuracy, changeInterval: [-0.03, -0.01] }],
  ['−2.0 points (−3.0 to −1.0), no more than noise', { ...accuracy, changeInterval: [-0.03, -0.01], verdict: 'same' }],
  ['0.0 points, equal', { ...accuracy, pruned: 0.6, verdict: 'better' }],
])('returns %s', (expected, metric) => {
  expect(describeChange(metric)).toBe(expected);
});

it('returns an empty text if the dense model was not measured', () => {
  const { dense: _, ...alone } = perplexity;
  expect(describeChange(alone)).toBe('');
});
