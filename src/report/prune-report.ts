import type { ModelLayout, PrunableModule } from '../architecture/layout.js';
import type { CalibrationProvenance } from '../calibration/calibration-set.js';
import { sum } from '../linalg/sum.js';
import type { ResolvedOptions } from '../options.js';
import type { ModuleOutcome, PruneOutcome, StageTiming } from '../prune/job.js';
import type { FunctionalModule } from '../prune/measure-dense/dense-measures.js';
import type { ModuleActivations, TopActivations } from '../prune/top-activations.js';
import { removedParameters } from '../removal/removed-parameters.js';
import type { UnitOrder } from '../removal/reorder-units.js';
import { type Decode, describeContexts } from './describe-contexts.js';
import { describeRouting } from './describe-routing.js';
import {
  type BeforeAfter,
  type BlockReport,
  type CertificateReport,
  type CostCurve,
  type DtypeReport,
  type EnvironmentReport,
  type GroupReport,
  type HubOrigin,
  type ModuleReport,
  type PruneReport,
  type QualityReport,
  REPORT_SCHEMA,
  type ResultVocabularyReport,
  type SideFilesReport,
  type SizeReport,
  type StatisticsReport,
  type TopTokensReport,
} from './report-schema.js';
import { summariseAffinity } from './summarise-affinity.js';

export interface ReportInput {
  readonly version: string;
  readonly createdAt?: Date | undefined;
  readonly environment?: EnvironmentReport | undefined;
  readonly model: string;
  readonly hub?: HubOrigin | undefined;
  readonly out?: string | undefined;
  readonly options: ResolvedOptions;
  /** See `plainSettings`. */
  readonly settings: PruneReport['settings'];
  readonly layout: ModelLayout;
  readonly outcome: Pick<PruneOutcome, 'modules' | 'dense' | 'candidates' | 'healing' | 'remarks'>;
  /** New order of the units of reordered modules. */
  readonly orders?: readonly UnitOrder[] | undefined;
  readonly parametersAfter: number;
  readonly bytes: BeforeAfter;
  readonly dtypes?: readonly DtypeReport[] | undefined;
  readonly calibration?: CalibrationProvenance | undefined;
  /** Windows that the run calibrated on. */
  readonly windows: readonly Int32Array[];
  /** Decodes quoted calibration text; absent: no text is quoted. */
  readonly decode?: Decode | undefined;
  /** Tokens that activate remaining and removed units. */
  readonly topActivations?: TopActivations | undefined;
  readonly statistics?: StatisticsReport | undefined;
  readonly size?: SizeReport | undefined;
  readonly vocabulary?: ResultVocabularyReport | undefined;
  readonly certificate?: CertificateReport | undefined;
  readonly quality?: QualityReport | undefined;
  readonly sideFiles?: SideFilesReport | undefined;
  readonly timings: readonly StageTiming[];
  readonly peakMemoryBytes?: number | undefined;
}

/** Builds a report from the results of a run. */
export function buildPruneReport(input: ReportInput): PruneReport {
  const { layout, options, outcome, out, createdAt, environment, calibration, peakMemoryBytes } = input;
  const outcomes = new Map(outcome.modules.map((found) => [found.module.index, found]));
  const modules = layout.modules.map((module) => reportModule(module, outcomes.get(module.index), input));
  return {
    schema: REPORT_SCHEMA,
    version: input.version,
    ...(createdAt && { createdAt: createdAt.toISOString() }),
    ...(environment && { environment }),
    model: input.model,
    ...(input.hub && { hub: input.hub }),
    ...(out !== undefined && { out }),
    method: options.methodName,
    settings: input.settings,
    sparsity: {
      requested: options.sparsity,
      achieved: sparsityOf(modules.filter(({ kind }) => options.modules.has(kind))),
      ofAllParameters: 1 - input.parametersAfter / layout.parameterCount,
    },
    parameters: { before: layout.parameterCount, after: input.parametersAfter },
    bytes: input.bytes,
    ...(input.dtypes && { dtypes: input.dtypes }),
    blocks: reportBlocks(layout, modules, outcome.dense.blockChange),
    modules,
    seed: options.seed,
    ...(calibration && { calibration }),
    ...(input.statistics && { statistics: input.statistics }),
    ...(outcome.candidates && { candidates: outcome.candidates }),
    ...(input.size && { size: input.size }),
    ...(input.vocabulary && { vocabulary: input.vocabulary }),
    ...(outcome.healing && { healing: outcome.healing }),
    ...(input.certificate && { certificate: input.certificate }),
    ...(input.quality && { quality: input.quality }),
    ...(input.sideFiles && { sideFiles: input.sideFiles }),
    timings: input.timings,
    ...(peakMemoryBytes !== undefined && { peakMemoryBytes }),
    remarks: outcome.remarks,
  };
}

function reportBlocks(
  { blockCount }: ModelLayout,
  modules: readonly ModuleReport[],
  blockChange: Float64Array | undefined,
): BlockReport[] {
  return Array.from({ length: blockCount }, (_, index) => ({
    index,
    sparsity: sparsityOf(modules.filter(({ block }) => block === index)),
    ...(blockChange && { change: blockChange[index]! }),
  }));
}

function sparsityOf(modules: readonly Pick<ModuleReport, 'parametersBefore' | 'parametersAfter'>[]): number {
  const before = modules.reduce((sum, { parametersBefore }) => sum + parametersBefore, 0);
  const after = modules.reduce((sum, { parametersAfter }) => sum + parametersAfter, 0);
  return before === 0 ? 0 : 1 - after / before;
}

function reportModule(module: PrunableModule, outcome: ModuleOutcome | undefined, input: ReportInput): ModuleReport {
  const { block, kind, unitCount, parameterCount } = module;
  const keep = outcome?.keep ?? Int32Array.from({ length: unitCount }, (_, unit) => unit);
  const functional = input.outcome.dense.functional.get(module);
  const order = input.outcome.dense.orders?.get(module);
  const activations = input.topActivations?.byModule.get(module);
  const routing = input.outcome.dense.routings?.get(module);
  const reordered = input.orders?.find((found) => found.module === module.index);
  const [numerics] = outcome?.numerics ?? [];
  const neurons = outcome?.neurons && widthsOf(module, outcome.neurons.length / keep.length);
  const parametersAfter = parameterCount - (outcome === undefined ? 0 : removedParameters(outcome));
  const sizes = { parametersBefore: parameterCount, parametersAfter };
  return {
    block,
    kind,
    unitsBefore: unitCount,
    unitsAfter: keep.length,
    ...sizes,
    sparsity: sparsityOf([sizes]),
    keep: [...(reordered?.order.map((at) => keep[at]!) ?? keep)],
    ...(neurons && { neurons }),
    ...(outcome?.error && { error: outcome.error }),
    ...(activations && {
      topTokens: describeTopTokens(activations, { windows: input.topActivations!.windows, decode: input.decode }),
    }),
    ...(order && { costCurve: summariseCosts(order.costs) }),
    ...(functional === undefined
      ? numerics && { numerics }
      : reportFunctions(functional, { keep, outcome, windows: input.windows, decode: input.decode })),
    ...(routing && {
      contexts: describeContexts({ contexts: routing.contexts, windows: input.windows, decode: input.decode }),
      routing: describeRouting(routing),
    }),
  };
}

interface FunctionsInput extends Pick<ReportInput, 'windows' | 'decode'> {
  readonly keep: Int32Array;
  readonly outcome: ModuleOutcome | undefined;
}

/** Function groups, their contexts, and the affinity of both. */
function reportFunctions(
  { contexts, groups, affinity }: FunctionalModule,
  { keep, outcome, windows, decode }: FunctionsInput,
): Pick<ModuleReport, 'groups' | 'contexts' | 'affinity'> {
  const remaining = new Set(keep);
  const membersOf = (members: Int32Array) => ({
    members: [...members],
    keptCount: members.filter((neuron) => remaining.has(neuron)).length,
  });
  const functions = groups.functions.map((members, context): GroupReport => {
    const numerics = outcome?.numerics[context];
    return { kind: 'function', context, ...membersOf(members), ...(numerics && { numerics }) };
  });
  const shared: GroupReport[] = groups.shared.length === 0 ? [] : [{ kind: 'shared', ...membersOf(groups.shared) }];
  return {
    groups: [...shared, ...functions],
    contexts: describeContexts({ contexts, windows, decode }),
    affinity: summariseAffinity({ affinity, contextCount: contexts.contextCount, groups, keep }),
  };
}

/** Neurons of each expert. @param remaining units */
const widthsOf = ({ neurons }: PrunableModule, remaining: number): BeforeAfter => ({
  before: neurons!.unitCount * neurons!.unitSize,
  after: remaining * neurons!.unitSize,
});

/** Number of tokens from which examples are chosen. */
const TYPICAL_COUNT = 64;

/** Divides tokens by the units that they activate more than average: remaining ones (0), or removed ones (1). */
function describeTopTokens(
  { remaining, removed }: ModuleActivations,
  { windows, decode }: Pick<TopActivations, 'windows'> & { readonly decode: Decode | undefined },
): TopTokensReport {
  const total = sum(remaining) + sum(removed);
  const remainingShare = total === 0 ? 1 : sum(remaining) / total;
  const shares = remaining.map((value, at) =>
    value + removed[at]! === 0 ? remainingShare : value / (value + removed[at]!),
  );
  const contextOfToken = Int32Array.from(shares, (share) => (share >= remainingShare ? 0 : 1));
  const most = (values: Float64Array, side: number): Int32Array =>
    Int32Array.from(
      Array.from(values.keys())
        .filter((at) => contextOfToken[at] === side)
        .sort((one, other) => values[other]! - values[one]! || one - other)
        .slice(0, TYPICAL_COUNT),
    );
  const contexts = { contextCount: 2, contextOfToken, typicalTokens: [most(remaining, 0), most(removed, 1)] };
  const [byRemaining, byRemoved] = describeContexts({ contexts, windows, decode });
  return { keptShare: Number(remainingShare.toPrecision(4)), kept: byRemaining!, removed: byRemoved! };
}

/** Enough points for a smooth curve. */
const POINT_COUNT = 24;

/** Cumulative cost at evenly spaced fractions of removed units. @param costs In the order of removal. */
export function summariseCosts(costs: ArrayLike<number>): CostCurve {
  const totals = [0];
  for (let step = 0; step < costs.length; step++) totals.push(totals[step]! + costs[step]!);
  const count = Math.min(POINT_COUNT, costs.length);
  const steps = Array.from({ length: count + 1 }, (_, at) => Math.round((at * costs.length) / Math.max(1, count)));
  return {
    removed: steps.map((step) => rounded(step / Math.max(1, costs.length))),
    cost: steps.map((step) => rounded(totals[step]!)),
  };
}

function rounded(value: number): number {
  return Number(value.toPrecision(4));
}
