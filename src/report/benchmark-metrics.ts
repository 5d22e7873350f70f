import { counted } from '../counted.js';
import { OptionError } from '../errors.js';
import type { Speedup, SpeedVerdict, Spread } from '../evaluation/speed.js';
import { findMeasured, isSameModel } from './find-measured.js';
import type { MetricReport, PruneReport } from './report-schema.js';

/** Output of `fang-prune bench --json`, as far as a report shows it. */
export interface BenchmarkMeasurements {
  readonly machine: { readonly processor: string };
  readonly promptLength: number;
  readonly newTokens: number;
  readonly rounds: number;
  readonly models: readonly SpeedMeasurements[];
  readonly comparisons?: readonly ComparedSpeeds[];
}

/** Speed of one model on the machine that measured. */
export interface SpeedMeasurements {
  readonly model: string;
  readonly fileBytes: number;
  readonly loadMs: Pick<Spread, 'median'>;
  readonly prefillTokensPerSecond: Pick<Spread, 'median'>;
  readonly decodeTokensPerSecond: Pick<Spread, 'median'>;
  readonly peakMemoryBytes: number;
}

/** A speed compared with the reference's. */
export interface ComparedSpeed extends Partial<Pick<Speedup, 'interval'>> {
  readonly verdict: SpeedVerdict;
}

/** Two models compared round by round. */
export interface ComparedSpeeds {
  readonly model: string;
  readonly reference: string;
  readonly prefill: ComparedSpeed;
  readonly decode: ComparedSpeed;
}

/**
 * Speeds and memory of the dense and the pruned model. Their file sizes must equal those in the report.
 * @param place Name of the measurements in messages.
 * @throws OptionError when other models were measured.
 */
export function benchmarkMetrics(
  report: PruneReport,
  { models, comparisons = [], ...shape }: BenchmarkMeasurements,
  place: string,
): MetricReport[] {
  const { dense, pruned } = findMeasured(report, models, place);
  checkSize(pruned, report.bytes.after, place);
  if (dense !== undefined) checkSize(dense, report.bytes.before, place);
  const verdicts = comparisons.find(
    ({ model, reference }) => isSameModel(model, report.out) && isSameModel(reference, report.model),
  );
  const note =
    `speeds: medians of ${counted(shape.rounds, 'round')}, each of ${counted(shape.promptLength, 'token')} read and ${shape.newTokens} written, ` +
    `on ${shape.machine.processor}`;
  return FIGURES.map(({ of, comparison, ...figure }): MetricReport => {
    const { verdict, interval } = (comparison && verdicts?.[comparison]) ?? {};
    return {
      ...figure,
      ...(dense !== undefined && { dense: of(dense) }),
      pruned: of(pruned),
      ...(interval && { changeInterval: [interval[0] - 1, interval[1] - 1] as const }),
      ...(verdict !== undefined && { verdict: VERDICTS[verdict] }),
      note,
    };
  });
}

/** Refuses measurements of a model that has changed since. @throws OptionError */
function checkSize({ model, fileBytes }: SpeedMeasurements, expected: number, place: string): void {
  if (fileBytes === expected) return;
  throw new OptionError(
    `${place} measured ${model} with ${fileBytes} bytes, and the report has ${expected}: the model has changed since. Run bench again`,
  );
}

const VERDICTS = { faster: 'better', slower: 'worse', same: 'same' } as const satisfies Record<SpeedVerdict, string>;

interface Figure extends Pick<MetricReport, 'kind' | 'name' | 'unit' | 'better'> {
  readonly of: (measured: SpeedMeasurements) => number;
  readonly comparison?: 'prefill' | 'decode';
}

const FIGURES: readonly Figure[] = [
  {
    kind: 'speed',
    name: 'reading a prompt',
    unit: 'tokens/s',
    better: 'higher',
    of: ({ prefillTokensPerSecond }) => prefillTokensPerSecond.median,
    comparison: 'prefill',
  },
  {
    kind: 'speed',
    name: 'writing',
    unit: 'tokens/s',
    better: 'higher',
    of: ({ decodeTokensPerSecond }) => decodeTokensPerSecond.median,
    comparison: 'decode',
  },
  { kind: 'speed', name: 'loading', unit: 'ms', better: 'lower', of: ({ loadMs }) => loadMs.median },
  {
    kind: 'memory',
    name: 'peak memory',
    unit: 'bytes',
    better: 'lower',
    of: ({ peakMemoryBytes }) => peakMemoryBytes,
  },
];
