import { counted } from '../counted.js';
import { OptionError } from '../errors.js';
import type { ComparedMeasure, PairedDifference, TaskComparison } from '../evaluation/compare-results.js';
import type { DivergenceResult } from '../evaluation/measure-divergence.js';
import type { Kind } from '../options/kinds.js';
import { type BenchmarkMeasurements, benchmarkMetrics } from './benchmark-metrics.js';
import { checkFields } from './check-report.js';
import { findMeasured, isSameModel } from './find-measured.js';
import { BENCHMARK, BIAS, EVALUATION } from './measurement-kinds.js';
import { type MeasuredPerplexity, perplexityMetric } from './perplexity-metric.js';
import type { BiasReport, MetricReport, PruneReport } from './report-schema.js';
import { withoutPaths } from './without-paths.js';

/** Output of `fang-prune eval --json`, as far as a report shows it. */
export interface EvaluationMeasurements {
  readonly models: readonly ModelMeasurements[];
  /** Paired tests; with `--compare`. */
  readonly comparisons?: readonly ComparedTask[];
}

/** Measurements of one model. */
export interface ModelMeasurements {
  readonly model: string;
  readonly perplexity?: readonly (MeasuredPerplexity & { readonly text: string })[];
  readonly divergence?: readonly (DivergenceResult & { readonly text: string; readonly reference: string })[];
  readonly tasks?: readonly TaskMeasurement[];
}

/** Accuracies on one task. */
export interface TaskMeasurement {
  readonly file: string;
  readonly itemCount?: number;
  readonly acc: number;
  /** Null for a single item. */
  readonly accStderr?: number | null;
  readonly accNorm?: number | undefined;
  readonly accNormStderr?: number | null | undefined;
  /** -ln p of the right answer, in nats. */
  readonly goldNll?: number | undefined;
}

/** Two models compared on one task or text. */
export interface ComparedTask
  extends Partial<Pick<TaskComparison, 'verdict' | 'deciding'>>,
    Partial<Readonly<Record<ComparedMeasure, Pick<PairedDifference, 'difference' | 'interval'>>>> {
  /** Default `task`. */
  readonly kind?: 'task' | 'perplexity';
  readonly file: string;
  readonly a: string;
  readonly b: string;
}

/**
 * Adds measurements of the dense and the pruned model to a report; those of the same name are replaced.
 *
 * @param measured Output of `fang-prune eval --json`, `fang-prune bench --json` or `fang-prune bias --json`.
 * @param place Name for messages.
 * @throws OptionError for other output, or measurements of other models; ModelFormatError for damaged output.
 */
export function addMeasurements(report: PruneReport, measured: unknown, place: string): PruneReport {
  const kind = KINDS.find(({ field }) => Object.hasOwn(Object(measured), field));
  if (kind === undefined) {
    throw new OptionError(
      `${place} contains no measurements; expected the output of eval --json, bench --json or bias --json`,
    );
  }
  checkFields(measured, kind.fields, { file: place, remedy: 'Measure again.' });
  return kind.add(report, measured as never, place);
}

interface MeasurementKind<T> {
  /** Field that no later kind has. */
  readonly field: keyof T;
  readonly fields: Kind<object>;
  readonly add: (report: PruneReport, measured: T, place: string) => PruneReport;
}

const BIASES: MeasurementKind<BiasReport & { readonly perplexity?: MetricReport }> = {
  field: 'overlap',
  fields: BIAS,
  add(report, measured) {
    const { perplexity, ...bias } = withoutPaths(measured);
    const others = (report.bias ?? []).filter(({ name }) => name !== bias.name);
    return { ...withMetrics(report, perplexity ? [perplexity] : []), bias: [...others, bias] };
  },
};

const BENCHMARKS: MeasurementKind<BenchmarkMeasurements> = {
  field: 'promptLength',
  fields: BENCHMARK,
  add: (report, measured, place) => withMetrics(report, benchmarkMetrics(report, measured, place)),
};

const EVALUATIONS: MeasurementKind<EvaluationMeasurements> = {
  field: 'models',
  fields: EVALUATION,
  add: (report, measured, place) => withMetrics(report, metricsOf(report, measured, place)),
};

const KINDS = [BIASES, BENCHMARKS, EVALUATIONS] as const;

function withMetrics(report: PruneReport, metrics: readonly MetricReport[]): PruneReport {
  const keyOf = ({ kind, name }: MetricReport) => `${kind} ${name}`;
  const added = new Set(metrics.map(keyOf));
  return { ...report, metrics: [...(report.metrics ?? []).filter((one) => !added.has(keyOf(one))), ...metrics] };
}

function metricsOf(
  report: PruneReport,
  { models, comparisons = [] }: EvaluationMeasurements,
  place: string,
): MetricReport[] {
  const { dense, pruned } = findMeasured(report, models, place);
  const verdicts = comparisons.filter(({ a, b }) => isSameModel(a, report.model) && isSameModel(b, report.out));
  const ofKind = (kind: 'task' | 'perplexity') => verdicts.filter((one) => (one.kind ?? 'task') === kind);
  const { perplexity = [], divergence = [], tasks = [] } = pruned;
  const paths = [...[...perplexity, ...divergence].map(({ text }) => text), ...tasks.map(({ file }) => file)];
  const metrics = [
    ...perplexityMetrics({ dense, pruned }, ofKind('perplexity'), place),
    ...divergenceMetrics(report, pruned),
    ...taskMetrics(dense, pruned, ofKind('task')),
  ];
  return withoutPaths(metrics, { paths });
}

function perplexityMetrics(
  { dense, pruned }: { readonly dense: ModelMeasurements | undefined; readonly pruned: ModelMeasurements },
  verdicts: readonly ComparedTask[],
  place: string,
): MetricReport[] {
  return (pruned.perplexity ?? []).map((measured) => {
    const { text, protocol } = measured;
    const denseResult = dense?.perplexity?.find((found) => found.text === text);
    if (denseResult !== undefined && denseResult.protocol.tokensSha256 !== protocol.tokensSha256) {
      throw new OptionError(`${place}: the two models read different tokens of ${text}; measure both in one run`);
    }
    const verdict = verdicts.find(({ file }) => file === text)?.verdict;
    return { ...perplexityMetric(text, denseResult, measured), ...(verdict !== undefined && { verdict }) };
  });
}

/** Divergence of the pruned model's predictions from the dense model's. */
function divergenceMetrics({ model }: PruneReport, { divergence = [] }: ModelMeasurements): MetricReport[] {
  return divergence
    .filter(({ reference }) => isSameModel(reference, model))
    .flatMap(({ text, klDivergence, top1Agreement, intervals, protocol }): MetricReport[] => [
      { kind: 'other', name: `divergence (KL), ${text}`, dense: 0, pruned: klDivergence, better: 'lower', protocol },
      {
        kind: 'accuracy',
        name: `same first choice, ${text}`,
        dense: 1,
        pruned: top1Agreement,
        better: 'higher',
        ...(intervals && { changeInterval: [intervals.top1Agreement[0] - 1, intervals.top1Agreement[1] - 1] as const }),
        protocol,
      },
    ]);
}

const ACCURACIES = [
  ['acc', 'accStderr'],
  ['accNorm', 'accNormStderr'],
] as const;

/** Verdict on the difference of one measure; undefined if it was not tested. */
function verdictOn(measure: ComparedMeasure, comparison: ComparedTask | undefined): MetricReport['verdict'] {
  const { [measure]: found, deciding } = comparison ?? {};
  if (found === undefined || deciding === undefined) return comparison?.verdict === 'same' ? 'same' : undefined;
  if (!deciding.includes(measure)) return 'same';
  return found.difference > 0 === (measure !== 'goldNll') ? 'better' : 'worse';
}

function taskMetrics(
  dense: ModelMeasurements | undefined,
  pruned: ModelMeasurements,
  verdicts: readonly ComparedTask[],
): MetricReport[] {
  return (pruned.tasks ?? []).flatMap((task) => {
    const denseResult = dense?.tasks?.find(({ file }) => file === task.file);
    const comparison = verdicts.find(({ file }) => file === task.file);
    const accuracies = ACCURACIES.flatMap(([figure, error]): MetricReport[] => {
      const value = task[figure];
      if (value === undefined) return [];
      const [denseError, prunedError] = [denseResult?.[error] ?? undefined, task[error] ?? undefined];
      const verdict = verdictOn(figure, comparison);
      const { interval } = comparison?.[figure] ?? {};
      return [
        {
          kind: 'accuracy',
          name: `${task.file}, ${figure}`,
          ...(denseResult?.[figure] !== undefined && { dense: denseResult[figure] }),
          pruned: value,
          better: 'higher',
          ...(prunedError !== undefined && {
            standardErrors: { ...(denseError !== undefined && { dense: denseError }), pruned: prunedError },
          }),
          ...(interval && { changeInterval: interval }),
          ...(verdict !== undefined && { verdict }),
          ...(task.itemCount !== undefined && { note: `${task.file}: ${counted(task.itemCount, 'item')}` }),
        },
      ];
    });
    return [...accuracies, ...likelihoodMetrics(task, denseResult, verdictOn('goldNll', comparison))];
  });
}

function likelihoodMetrics(
  { file, goldNll }: TaskMeasurement,
  dense: TaskMeasurement | undefined,
  verdict: MetricReport['verdict'],
): MetricReport[] {
  if (goldNll === undefined) return [];
  return [
    {
      kind: 'other',
      name: `${file}, -ln p of the right answer`,
      ...(dense?.goldNll !== undefined && { dense: dense.goldNll }),
      pruned: goldNll,
      unit: 'nats',
      better: 'lower',
      ...(verdict !== undefined && { verdict }),
    },
  ];
}
