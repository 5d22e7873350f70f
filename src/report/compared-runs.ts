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
 * Lays other runs next to a report's own.
 * @throws OptionError for runs of another dense model.
 */
export function addComparedRuns(own: NamedReport, others: readonly NamedReport[]): PruneReport {
  const { report } = own;
  const different = others.find((other) => other.report.parameters.before !== report.parameters.before);
  if (different !== undefined)
    throw new OptionError(
      `${different.name} is of a model with ${different.report.parameters.before} parameters, and this report of one with ` +
        `${report.parameters.before}; lay runs of one dense model side by side`,
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

/** A figure by run. */
export interface ComparedRunRow {
  readonly name: string;
  /** One a run; empty where it was not measured, or in another way than the first that was. */
  readonly cells: readonly string[];
}

/** A row a figure. @param formatFigure shows a run's figure */
export function comparedRunRows(
  runs: readonly BesideReport[],
  formatFigure: (metric: MetricReport) => string,
): readonly ComparedRunRow[] {
  const first = new Map<string, MetricReport>();
  for (const metric of runs.flatMap(({ metrics }) => metrics))
    if (!first.has(keyOf(metric))) first.set(keyOf(metric), metric);
  const measured = [...first].map(([key, like]): ComparedRunRow => {
    const cellOf = ({ metrics }: BesideReport): string => {
      const found = metrics.find((metric) => keyOf(metric) === key);
      if (found === undefined) return '';
      return protocolKey(found) === protocolKey(like) ? formatFigure(found) : 'measured otherwise';
    };
    return { name: nameOf(like), cells: runs.map(cellOf) };
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

/** Figures of other tokens, or of other speeds' prompts, do not compare. */
function protocolKey({ protocol, note }: MetricReport): string {
  const { tokensSha256, windowLength, stride, leadingTokens } = protocol ?? {};
  return [tokensSha256, windowLength, stride, leadingTokens, note].join();
}
