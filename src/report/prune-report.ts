import type { ModelLayout, ModuleKind, PrunableModule } from '../architecture/layout.js';
import type { CalibrationProvenance } from '../calibration/calibration-set.js';
import type { ResolvedOptions } from '../options.js';
import type { ModuleOutcome, StageTiming } from '../prune.js';

/** What a pruning run did, as plain data. */
export interface PruneReport {
  /** Version of this library. */
  readonly version: string;
  readonly model: string;
  /** Folder written; absent for a dry run. */
  readonly out?: string;
  readonly method: string;
  readonly sparsity: {
    readonly requested: number;
    /** Fraction of the selected modules' parameters removed. */
    readonly achieved: number;
    /** Fraction of all parameters removed. */
    readonly ofAllParameters: number;
  };
  readonly parameters: { readonly before: number; readonly after: number };
  /** Model file with its external data; `after` is foretold in a dry run. */
  readonly bytes: { readonly before: number; readonly after: number };
  /** Every module of the model, those that were left alone included. */
  readonly modules: readonly ModuleReport[];
  readonly seed: number;
  /** Absent for methods that look at no token. */
  readonly calibration?: CalibrationProvenance;
  readonly timings: readonly StageTiming[];
  /** Largest resident memory of the process, where the platform tells. */
  readonly peakMemoryBytes?: number;
  readonly remarks: readonly string[];
}

export interface ModuleReport {
  readonly block: number;
  readonly kind: ModuleKind;
  readonly unitsBefore: number;
  readonly unitsAfter: number;
  readonly parametersBefore: number;
  readonly parametersAfter: number;
  /** Units that stay, ascending. */
  readonly keep: readonly number[];
}

export interface ReportInput {
  readonly version: string;
  readonly model: string;
  readonly out?: string | undefined;
  readonly options: ResolvedOptions;
  readonly layout: ModelLayout;
  /** Modules that changed. */
  readonly outcomes: readonly ModuleOutcome[];
  readonly remarks: readonly string[];
  readonly parametersAfter: number;
  readonly bytes: { readonly before: number; readonly after: number };
  readonly calibration?: CalibrationProvenance | undefined;
  readonly timings: readonly StageTiming[];
  readonly peakMemoryBytes?: number | undefined;
}

/** Puts a report together. */
export function buildPruneReport(input: ReportInput): PruneReport {
  const { layout, options, out, calibration, peakMemoryBytes } = input;
  const outcomes = new Map(input.outcomes.map((found) => [found.module.index, found]));
  const modules = layout.modules.map((module) => reportModule(module, outcomes.get(module.index)));
  const selected = modules.filter(({ kind }) => options.modules.has(kind));
  const sum = (list: readonly ModuleReport[], field: 'parametersBefore' | 'parametersAfter') =>
    list.reduce((total, module) => total + module[field], 0);
  const before = sum(selected, 'parametersBefore');
  return {
    version: input.version,
    model: input.model,
    ...(out !== undefined && { out }),
    method: options.methodName,
    sparsity: {
      requested: options.sparsity,
      achieved: before === 0 ? 0 : 1 - sum(selected, 'parametersAfter') / before,
      ofAllParameters: 1 - input.parametersAfter / layout.parameterCount,
    },
    parameters: { before: layout.parameterCount, after: input.parametersAfter },
    bytes: input.bytes,
    modules,
    seed: options.seed,
    ...(calibration && { calibration }),
    timings: input.timings,
    ...(peakMemoryBytes !== undefined && { peakMemoryBytes }),
    remarks: input.remarks,
  };
}

function reportModule(module: PrunableModule, outcome: ModuleOutcome | undefined): ModuleReport {
  const { block, kind, unitCount, parameterCount } = module;
  const keep = outcome?.keep ?? Int32Array.from({ length: unitCount }, (_, unit) => unit);
  return {
    block,
    kind,
    unitsBefore: unitCount,
    unitsAfter: keep.length,
    parametersBefore: parameterCount,
    parametersAfter: parameterCount - removedParameters(module, keep),
    keep: [...keep],
  };
}

function removedParameters(
  { unitCount, parametersPerUnit, parametersPerGroup, groupOfUnit, groupCount = 0 }: PrunableModule,
  keep: Int32Array,
): number {
  const keptGroups = groupOfUnit ? new Set(keep.map((unit) => groupOfUnit[unit]!)).size : groupCount;
  return (unitCount - keep.length) * parametersPerUnit + (groupCount - keptGroups) * parametersPerGroup;
}
