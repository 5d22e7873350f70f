/** What can be asked for on every platform: requests, results, and the stages that a run is made of. */

export type { DtypeName, FolderLayout, QuantisationOptions } from '../options/quantisation.js';
export type { LeverName, ShrinkOptions, Size } from '../options/shrink.js';
export type { TextEvaluation, TextWindows } from '../options/texts.js';
export type { VocabularyOptions } from '../options/vocabulary.js';
export type { HubCommit, HubFile, HubSettings, HubStore } from '../platform/hub-store.js';
export type { EngineChoice, ExecutionProviderChoice, Files, Platform } from '../platform/platform.js';
export {
  addMeasurements,
  type ComparedTask,
  type EvaluationMeasurements,
  type ModelMeasurements,
  type TaskMeasurement,
} from '../report/add-measurements.js';
export type { BenchmarkMeasurements, ComparedSpeeds, SpeedMeasurements } from '../report/benchmark-metrics.js';
export type { BlockDescription, ModelDescription, ModuleDescription } from '../report/describe-model.js';
export type { ModelOrigin } from '../report/model-origin.js';
export type { Recipe, RecipeModule } from '../report/recipe-schema.js';
export type * from '../report/report-schema.js';
export type { SavedModule, SavedShard, SavedStatistics } from '../report/statistics-schema.js';
export type { ModelFolder, ModelRequest, OpenModelOptions, SourceOptions } from '../storage/model-folder.js';
export {
  type ComparableTask,
  type ComparableText,
  type ComparedPerplexities,
  type ComparedTasks,
  type CompareRequest,
  compareEvaluations,
  type EvaluatedModel,
  type ModelComparison,
  runComparison,
} from './evaluate/compare-evaluations.js';
export {
  type GenerationRequest,
  type GenerationSample,
  type LogLikelihoodRequest,
  type PerplexityRequest,
  runGeneration,
  runLogLikelihoods,
  runPerplexity,
  runTasks,
  type TasksRequest,
} from './evaluate/evaluate-model.js';
export type { TaskProtocol, TaskReport, TextDivergence, TextPerplexity } from './evaluate/measurements.js';
export { type BiasRequest, type BiasResult, runBias } from './evaluate/run-bias.js';
export { type EvaluateRequest, type Evaluation, runEvaluation } from './evaluate/run-evaluation.js';
export { type JobContext, type Stage, withJob } from './job-context.js';
export type { LadderRequest, PruneRequest } from './prune-request.js';
export { type AppliedRecipe, type ApplyRequest, runApply } from './run-apply.js';
export { type DescribeRequest, runDescribe } from './run-describe.js';
export { type HealedFolder, type HealRequest, runHeal } from './run-heal.js';
export { type MergedStatistics, type MergeRequest, runMerge } from './run-merge.js';
export { type ObservedFolder, type ObserveRequest, runObserve } from './run-observe.js';
export { type PlannedResult, type PlannedWindows, type PlanRequest, type PrunePlan, runPlan } from './run-plan.js';
export { runLadder, runPrune } from './run-prune.js';
export { type PushedFolder, type PushRequest, runPush } from './run-push.js';
export { type QuantizeRequest, runQuantize } from './run-quantize.js';
export { type ReportRequest, runReport, type WrittenReport } from './run-report.js';
export { runShrink, type ShrinkReports, type ShrinkRequest } from './run-shrink.js';
export {
  runTrimVocabulary,
  type TrimmedVocabulary,
  type TrimVocabularyRequest,
  type VocabularyReport,
} from './run-trim-vocabulary.js';
export { STAGES, type Stages, type StagesOption } from './stages.js';
export type { TrimmingCertificate } from './vocabulary/certify-trimming.js';
