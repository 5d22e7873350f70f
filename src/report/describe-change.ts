import type { MetricReport } from './report-schema.js';

/** `−30.0 %`, `+4.2 %`. */
export function changeOf({ before, after }: { readonly before: number; readonly after: number }): string {
  return before === 0 ? '' : `${signed(after / before - 1)} %`;
}

/** Text of a metric's change: the change, its 95 % interval, and a verdict. */
export function describeChange(metric: MetricReport): string {
  const { kind, dense, pruned, changeInterval } = metric;
  if (dense === undefined) return '';
  const isDifference = kind === 'accuracy';
  const change = isDifference ? `${signed(pruned - dense)} points` : changeOf({ before: dense, after: pruned });
  const unit = isDifference ? '' : ' %';
  const range = changeInterval && `(${changeInterval.map(signed).join(' to ')}${unit})`;
  return [`${change}${range ? ` ${range}` : ''}`, describeVerdict(metric)].filter(Boolean).join(', ');
}

/** Whether the change is not significant. */
export function isNoise(metric: MetricReport): boolean {
  return describeVerdict(metric) === NOISE;
}

const NOISE = 'no more than noise';

/** Verdict in words; empty for a difference that was not tested. */
function describeVerdict(metric: MetricReport): string {
  const { better, verdict, changeInterval, dense, pruned } = metric;
  if (dense === pruned) return 'equal';
  if (verdict !== undefined) return verdict === 'same' ? NOISE : verdict;
  if (changeInterval === undefined) return '';
  const [low, high] = changeInterval;
  if (low <= 0 && high >= 0) return NOISE;
  return low > 0 === (better === 'higher') ? 'better' : 'worse';
}

const signOf = (change: number): string => (change > 0 ? '+' : '−');

/** 0.0523 -> `+5.2`. */
function signed(fraction: number): string {
  const text = Math.abs(100 * fraction).toFixed(1);
  return Number(text) === 0 ? text : `${signOf(fraction)}${text}`;
}
