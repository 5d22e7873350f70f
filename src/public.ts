/** Requests and results of calls, on every platform. */

export type {
  Allocation,
  AllocationProblem,
  BlockMeasure,
  MeasuredOrder,
  ModuleMeasures,
  OrderingMethod,
} from './allocation/allocation.js';
export { ALLOCATIONS } from './allocation/allocations.js';
export type { ModuleKind, Unrecognised } from './architecture/layout.js';
export type { CalibrationProvenance, GeneratedProvenance } from './calibration/calibration-set.js';
export type { TokenSource } from './calibration/token-source.js';
export type { LimitTime } from './calibration/tokenizer.js';
export type {
  ChannelStatistics,
  Compensated,
  CompensationAdapter,
  ImportanceProblem,
  LinearWeight,
  PreparedImportance,
  StatisticsNeed,
} from './compensation/adapter.js';
export { METHODS, type MethodName } from './compensation/methods.js';
export {
  EngineError,
  FangPruneError,
  HubError,
  ModelFormatError,
  NumericalError,
  OptionError,
  UnsupportedModelError,
} from './errors.js';
export type { LogPerplexityDifference, PerplexityComparison } from './evaluation/compare-perplexities.js';
export type {
  AccuracyDifference,
  ComparisonOptions,
  PairedDifference,
  TaskComparison,
  Verdict,
} from './evaluation/compare-results.js';
export type { TextPair } from './evaluation/encode-pair.js';
export type { Overlap } from './evaluation/find-overlap.js';
export type { LogLikelihood } from './evaluation/log-likelihood.js';
export type { BiasFindings, ContextBias, LossPair } from './evaluation/measure-bias.js';
export type { DivergenceResult } from './evaluation/measure-divergence.js';
export type { PerplexityProtocol, PerplexityResult } from './evaluation/perplexity.js';
export type {
  LastWordAnswer,
  LastWordResult,
  MultipleChoiceAnswer,
  MultipleChoiceResult,
  TaskResult,
} from './evaluation/task-result.js';
export type { Temperature } from './grouping/weight-contexts.js';
export type { WeightingName } from './grouping/weighting-variants.js';
export type { CurvePoint, HealingReport, TrainedName } from './healing/heal-model.js';
export type { ImportanceScore } from './importance/importance-score.js';
export type { ByteSink, ByteSource } from './onnx/byte-source.js';
export type {
  AllocationChoice,
  AllocationName,
  BlockSparsity,
  CalibrationOptions,
  CalibrationSource,
  FeaturesName,
  Fraction,
  GenerateOptions,
  GroupingOptions,
  HeadUnit,
  HealingOptions,
  MethodChoice,
  MetricName,
  ModuleSelection,
  PruneOptions,
  WeightingOptions,
} from './options.js';
export type { JobControl, Progress, ProgressListener } from './progress.js';
export type { StageTiming } from './prune/job.js';
export type { Engine, Session, SessionOptions, Tensor, Tensors, TensorType } from './runtime/engine.js';
export type { ScratchFile } from './runtime/tensor-store.js';
export type { TokenCounts } from './vocabulary/choose-tokens.js';
