export * from './index.js';
export { type AppliedRecipe, type ApplyRequest, applyRecipe } from './node/apply-recipe.js';
export {
  type BenchmarkReport,
  type BenchmarkRequest,
  benchmark,
  type ModelSpeed,
} from './node/bench/benchmark.js';
export type { SpeedComparison } from './node/bench/explain-speed.js';
export type { WidthProbes } from './node/bench/probe-widths.js';
export { type BiasRequest, type BiasResult, measureCalibrationBias } from './node/bias-folder.js';
export {
  type ComparableTask,
  type CompareRequest,
  compareEvaluations,
  compareFiles,
  type EvaluatedTasks,
  type ModelComparison,
} from './node/compare-evaluations.js';
export { type DescribeRequest, describe } from './node/describe-folder.js';
export {
  evaluateTasks,
  type GenerationRequest,
  type GenerationSample,
  generateText,
  type LogLikelihoodRequest,
  logLikelihoods,
  type PerplexityRequest,
  perplexity,
  type TasksRequest,
} from './node/evaluate-folder.js';
export { type EvaluateRequest, type Evaluation, evaluateModels } from './node/evaluate-models.js';
export type { TaskProtocol, TaskReport, TextDivergence, TextPerplexity } from './node/measurements.js';
export {
  type EmbeddingsOption,
  type ModelFolder,
  type OpenModelOptions,
  openModelFolder,
} from './node/model-folder.js';
export { createNodeEngine, type EngineChoice, type ExecutionProviderChoice } from './node/node-engine.js';
export { type ObservedFolder, type ObserveRequest, observe } from './node/observe-folder.js';
export { type LadderRequest, type PruneRequest, prune, pruneLadder } from './node/prune-folder.js';
export { type ReportRequest, rebuildReport, type WrittenReport } from './node/report-folder.js';
export type { TextEvaluation, TextWindows } from './options/texts.js';
export {
  addMeasurements,
  type ComparedTask,
  type EvaluationMeasurements,
  type ModelMeasurements,
  type TaskMeasurement,
} from './report/add-measurements.js';
export type { BenchmarkMeasurements, ComparedSpeeds, SpeedMeasurements } from './report/benchmark-metrics.js';
export type { BlockDescription, ModelDescription, ModuleDescription } from './report/describe-model.js';
export type { ModelOrigin } from './report/model-origin.js';
export type { Recipe, RecipeModule } from './report/recipe-schema.js';
export type * from './report/report-schema.js';
export type { SavedModule, SavedStatistics } from './report/statistics-schema.js';
