import { OptionError } from '../errors.js';
import { qualityMetrics } from './describe-quality.js';
import { formatBytes, formatCount, formatPercent } from './format-quantity.js';
import type { BesideReport, MetricReport, PruneReport } from './report-schema.js';

/** A report, and the place that it was read from. */
export interface NamedReport {
  readonly name: string;
  readonly report: PruneReport;
}

/**
 * Adds other runs to a report, for comparison.
 * @throws OptionError for runs of another dense model.
 */
export function addComparedRuns(own: NamedReport, others: readonly NamedReport[]): PruneReport {
  const { report } = own;
  const different = others.find((other) => other.report.parameters.before !== report.parameters.before);
  if (different !== undefined)
    throw new OptionError(
      `${different.name} is of a model with ${different.report.parameters.before} parameters, and this report of one with ` +
        `${report.parameters.before}; compare runs of one dense model`,
    );
  const runs = [own, ...others];
  const isAmbiguous = new Set(runs.map(({ report: { out } }) => out)).size < runs.length;
  return {
    ...report,
    beside: runs.map(({ name, report }) => summarise(report, isAmbiguous ? name : (report.out ?? name))),
  };
}

function summarise(report: PruneReport, name: string): BesideReport {
  const { method, seed, sparsity, parameters, bytes, quality, metrics = [] } = report;
  return {
    name,
    method,
    seed,
    requested: sparsity.requested,
    achieved: sparsity.achieved,
    parameters: parameters.after,
    bytes: bytes.after,
    metrics: [...(quality === undefined ? [] : qualityMetrics(quality)), ...metrics],
  };
}

/** A figure of all runs. */
export interface ComparedRunRow {
  readonly name: string;
  /** One per run; empty if it was not measured. */
  readonly cells: readonly string[];
}

/** Rows of the table, one per figure. @param formatFigure formats the figure of a run */
export function comparedRunRows(
  runs: readonly BesideReport[],
  formatFigure: (metric: MetricReport) => string,
): readonly ComparedRunRow[] {
  const first = new Map<string, MetricReport>();
  for (const metric of runs.flatMap(({ metrics }) => metrics))
    if (!first.has(keyOf(metric))) first.set(keyOf(metric), metric);
  const measured = [...first].map(([key, firstMetric]): ComparedRunRow => {
    const cellOf = ({ metrics }: BesideReport): string => {
      const found = metrics.find((metric) => keyOf(metric) === key);
      if (found === undefined) return '';
      return protocolKey(found) === protocolKey(firstMetric) ? formatFigure(found) : 'measured otherwise';
    };
    return { name: nameOf(firstMetric), cells: runs.map(cellOf) };
  });
  return [
    { name: 'method', cells: runs.map(({ method, seed }) => `${method}, seed ${seed}`) },
    { name: 'removed', cells: runs.map(({ achieved }) => formatPercent(achieved)) },
    { name: 'parameters', cells: runs.map(({ parameters }) => formatCount(parameters)) },
    { name: 'file size', cells: runs.map(({ bytes }) => formatBytes(bytes)) },
    ...measured,
  ];
}

const keyOf = ({ kind, name }: MetricReport): string => `${kind} ${name}`;

const nameOf = ({ kind, name, unit }: MetricReport): string =>
  `${kind === 'perplexity' ? `perplexity, ${name}` : name}${unit === undefined || unit === 'bytes' ? '' : ` (${unit})`}`;

/** Key of comparable figures: measured on the same tokens, or, for speeds, with the same prompt. */
function protocolKey({ protocol, note }: MetricReport): string {
  const { tokensSha256, windowLength, stride, leadingTokens } = protocol ?? {};
  return [tokensSha256, windowLength, stride, leadingTokens, note].join();
}
