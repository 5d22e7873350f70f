/** Exports of every platform: requests, results, and the stages of a run. */

export type { DtypeName, FolderLayout, QuantisationOptions } from '../options/quantisation.js';
export type { ReductionName, ShrinkOptions, Size } from '../options/shrink.js';
export type { TextEvaluation, TextWindows } from '../options/texts.js';
export type { VocabularyOptions } from '../options/vocabulary.js';
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
export type { HubCommit, HubFile, HubSettings, HubStore } from '../runtime/hub-store.js';
export type { EngineChoice, ExecutionProviderChoice, Files, Platform } from '../runtime/platform.js';
export type { ModelFolder, ModelRequest, OpenModelOptions, SourceOptions } from '../storage/model-folder.js';
export type { PlannedCandidate, PlannedSize, PlannedSizes } from './choose-size.js';
export {
  type ComparableTask,
  type ComparableText,
  type ComparedPerplexities,
  type ComparedTasks,
  type CompareRequest,
  compareEvaluations,
  type EvaluatedModel,
  type ModelComparison,
} from './compare-evaluations.js';
export type {
  GenerationRequest,
  GenerationSample,
  LogLikelihoodRequest,
  PerplexityRequest,
  TasksRequest,
} from './evaluate-model.js';
export type { EvaluateRequest, Evaluation } from './evaluate-request.js';
export { type JobContext, type Stage, withJob } from './job-context.js';
export type { TaskProtocol, TaskReport, TextDivergence, TextPerplexity } from './measurements.js';
export type { LadderRequest, PruneRequest } from './prune-request.js';
export type { AppliedRecipe, ApplyRequest } from './run-apply.js';
export type { BiasRequest, BiasResult } from './run-bias.js';
export type { Choice, ChooseRequest, MeasuredChoice } from './run-choose.js';
export type { DescribeRequest } from './run-describe.js';
export type { HealedFolder, HealRequest } from './run-heal.js';
export type { MergedStatistics, MergeRequest } from './run-merge.js';
export type { ObservedFolder, ObserveRequest } from './run-observe.js';
export type { PlannedResult, PlannedWindows, PlanRequest, PrunePlan } from './run-plan.js';
export type { PlanShrinkRequest, ShrinkPlan } from './run-plan-shrink.js';
export type { PushedFolder, PushRequest } from './run-push.js';
export type { QuantizeRequest } from './run-quantize.js';
export type { ReportRequest, WrittenReport } from './run-report.js';
export type { ShrinkReports, ShrinkRequest } from './run-shrink.js';
export type { TrimmedVocabulary, TrimVocabularyRequest } from './run-trim-vocabulary.js';
export { STAGES, type Stages, type StagesOption } from './stages.js';
