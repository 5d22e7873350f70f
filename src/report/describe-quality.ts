import { describeChange, isNoise } from './describe-change.js';
import { formatDivergence, formatPerplexity } from './format-figure.js';
import type { MetricReport, QualityReport } from './report-schema.js';

/** Names of the windows in tables of figures. */
const NAMES: Readonly<Record<QualityReport['from'], string>> = {
  source: 'held-out calibration text',
  text: 'bundled held-out text',
  calibration: 'calibration text',
};

/** Perplexities of both models, as a metric. */
export function qualityPerplexity({ from, perplexity, protocol }: QualityReport): MetricReport {
  const { dense, pruned, changeInterval } = perplexity;
  return {
    kind: 'perplexity',
    name: NAMES[from],
    dense,
    pruned,
    better: 'lower',
    ...(changeInterval && { changeInterval }),
    protocol,
  };
}

/** All measurements on held-out windows, as metrics. */
export function qualityMetrics(quality: QualityReport): readonly MetricReport[] {
  const { from, divergence, top1Agreement, protocol } = quality;
  const { mean, interval } = top1Agreement;
  return [
    qualityPerplexity(quality),
    {
      kind: 'other',
      name: `divergence (KL), ${NAMES[from]}`,
      dense: 0,
      pruned: divergence.mean,
      unit: 'nats',
      better: 'lower',
      protocol,
    },
    {
      kind: 'accuracy',
      name: `same first choice, ${NAMES[from]}`,
      dense: 1,
      pruned: mean,
      better: 'higher',
      ...(interval && { changeInterval: [interval[0] - 1, interval[1] - 1] as const }),
      protocol,
    },
  ];
}

/** Cost of a result in quality, in words. @param result name of the written model */
export function describeQuality(quality: QualityReport, result = 'pruned'): string {
  const { perplexity, divergence, top1Agreement, from, protocol } = quality;
  const { dense, pruned } = perplexity;
  const metric = qualityPerplexity(quality);
  const on = `on ${protocol.tokenCount} tokens of ${NAMES[from]}`;
  const caveat = from === 'calibration' ? ' No other text was available, so this is too favourable.' : '';
  const rest =
    `Both find the same token likeliest ${percentOf(top1Agreement.mean)} of the time; ` +
    `the divergence is ${formatDivergence(divergence.mean)} nats per token.${caveat}`;
  if (isNoise(metric) || dense === pruned)
    return `The ${result} model predicts the next token as well as the dense one ${on}: perplexity ${formatPerplexity(dense)} and ${formatPerplexity(pruned)}, ${describeChange(metric)}. ${rest}`;
  return (
    `The ${result} model predicts the next token as well as a guess among ${formatPerplexity(pruned)} equally likely ones ${on}; ` +
    `the dense model, among ${formatPerplexity(dense)}: perplexity ${roundedChange(pruned / dense - 1)}. ${rest}`
  );
}

/** `+58 %`; below 10 % with one decimal, `+5.8 %`. */
function roundedChange(change: number): string {
  const percent = 100 * Math.abs(change);
  return `${change < 0 ? '−' : '+'}${percent < 10 ? percent.toFixed(1) : Math.round(percent)} %`;
}

const percentOf = (fraction: number): string => `${Math.round(100 * fraction)} %`;
