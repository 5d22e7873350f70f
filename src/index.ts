/** `fang-prune/core`: the platform-free modules that pipelines are composed of, each used in an example. */

export { default as ndarray } from 'ndarray';
export { collectStatistics, createStatisticsMeter, type StatisticsTarget } from './activations/collect-statistics.js';
export { runMeters, type StageMeter } from './activations/stage-meter.js';
export { allocateSteps } from './allocation/allocate-steps.js';
export { allocateByThreshold, type ThresholdEntry } from './allocation/global.js';
export { type SpreadRule, spreadByMeasure } from './allocation/spread-by-measure.js';
export { allocateStandardised, type StandardisedEntry } from './allocation/standardised.js';
export type { DetectedModel } from './architecture/detect-layout.js';
export type { ModelLayout, OutputLinear, PrunableModule, Segment } from './architecture/layout.js';
export {
  type CalibrationSet,
  type CalibrationSetOptions,
  createCalibrationSet,
} from './calibration/calibration-set.js';
export type { GeneratedSet } from './calibration/generated-set.js';
export { createTokenizer, type Tokenizer } from './calibration/tokenizer.js';
export { createImportanceAdapter, type ImportanceAdapterOptions } from './compensation/importance-adapter.js';
export { createAdapter, type MethodOptions } from './compensation/methods.js';
export { REPAIRS, type RepairName } from './compensation/repairs.js';
export type { Bundle, BundleScore, ScoredSequence, SequenceScore } from './evaluation/bundle.js';
export { type BatchGenerationOptions, type GenerationOptions, generate } from './evaluation/generate.js';
export {
  type GenerateCalibrationOptions,
  generateCalibration,
  type WindowStore,
} from './evaluation/generate-calibration.js';
export type { LanguageModel, Reader } from './evaluation/language-model.js';
export { measureTask, type TaskOptions } from './evaluation/measure-task.js';
export { measureTextPerplexity, type PerplexityOptions } from './evaluation/perplexity.js';
export type { ScoreLog } from './evaluation/score-log.js';
export type { WindowOptions } from './evaluation/scored-windows.js';
export { createLanguageModel } from './evaluation/session-language-model.js';
export { type Candidate, readTaskItems, type TaskItem, type TaskKind } from './evaluation/task-items.js';
export type { ItemScore } from './evaluation/task-result.js';
export { type ClusteringInput, type Contexts, clusterContexts } from './grouping/cluster-contexts.js';
export { ASSIGNMENTS, type GroupingInput, groupNeurons, type NeuronGroups } from './grouping/group-neurons.js';
export { assignContexts } from './grouping/refine-centers.js';
export { type WeightingInput, weightContexts, weightTokens } from './grouping/weight-contexts.js';
export { WEIGHTING_VARIANTS } from './grouping/weighting-variants.js';
export { EXPERT_SCORES } from './importance/expert-scores.js';
export {
  type DampenedHessian,
  factoriseHessian,
  type Hessian,
  type HessianFactor,
  type HessianOptions,
} from './importance/hessian.js';
export { METRICS } from './importance/metrics.js';
export { scoreByObc } from './importance/obc.js';
export { orderByObc, type RemovalOrder } from './importance/obc-order.js';
export { type MetricWeight, weightInMetric } from './importance/weight-in-metric.js';
export { fitPca, type Pca, type PcaRequest, projectPoints } from './linalg/pca.js';
export { createRandom, type Random } from './linalg/random.js';
export type { SinkFolder, SourceFolder } from './onnx/byte-source.js';
export { copyModel } from './onnx/edit-weights.js';
export { joinEmbedding, withoutEmbeddingPrefix } from './onnx/join-embedding.js';
export { loadModel } from './onnx/load-model.js';
export { createMemoryFolder } from './onnx/memory-folder.js';
export type { EmbeddingPrefix, ModelStorage, OnnxModel, TensorHandle } from './onnx/onnx-model.js';
export { type SavedModel, type SaveOptions, saveModel } from './onnx/save-model.js';
export {
  GROUPING_DEFAULTS,
  type ResolvedGrouping,
  type ResolvedHealing,
  type ResolvedOptions,
  resolveOptions,
} from './options.js';
export { allocateModules, type StepCounts } from './prune/allocate-modules.js';
export type { ModuleOutcome, PruneJob, PruneOutcome } from './prune/job.js';
export type {
  BackwardMeasures,
  DenseMeasures,
  DenseNeeds,
  ForwardMeasures,
  FunctionalModule,
  MixtureRouting,
  ModuleContexts,
} from './prune/measure-dense/dense-measures.js';
export { type DensePasses, startDensePasses } from './prune/measure-dense/dense-passes.js';
export { measureBackwards } from './prune/measure-dense/measure-backwards.js';
export { type MeasuredModel, measureDense } from './prune/measure-dense/measure-dense.js';
export { measureForwards } from './prune/measure-dense/measure-forwards.js';
export { type MeasureRequest, measureModules } from './prune/measure-modules.js';
export { type ContextPlace, type PruneContext, startContext } from './prune/prune-context.js';
export { type MeasuredResult, type PruneExtras, pruneMeasured, pruneModel } from './prune/prune-model.js';
export type { RefinedModule, Refinement, SegmentRefinement } from './prune/refinement.js';
export { REFINEMENTS } from './prune/refinements.js';
export { type SegmentCase, scoreSegment } from './prune/score-segment.js';
export {
  type ModelEdits,
  type ModuleShrinking,
  type ShrunkModule,
  shrinkModule,
} from './prune/shrink-module.js';
export * from './public.js';
export { applyChange, type ModelChange, type ModuleCut } from './removal/apply-change.js';
export { type Choice, type ChoiceInput, chooseChannels, type ScoredGroup } from './removal/choose-channels.js';
export { chooseHeads, type HeadChoice, type HeadChoiceInput } from './removal/choose-heads.js';
export { type MaskOptions, maskModel } from './removal/mask-model.js';
export { type Removal, removeUnits } from './removal/remove-units.js';
export {
  addLinearBias,
  readLinearWeight,
  type StoreTensor,
  storeInMemory,
  writeLinearWeight,
} from './removal/repair-linear.js';
export type { RemovalPlan, ScoredModule } from './removal/score-module.js';
export { tidyModel } from './removal/tidy-model.js';
export { type AnalysedModel, analyseModel, type UnderstoodModel } from './runtime/analyse-model.js';
export {
  type Batch,
  type BlockRunner,
  type BlockRunnerOptions,
  createBlockRunner,
  makeBatches,
} from './runtime/block-runner.js';
export {
  type DifferentiatedModel,
  type DifferentiationRequest,
  differentiateModel,
} from './runtime/differentiate-model.js';
export { createOrtEngine, type OrtEngineOptions } from './runtime/ort-engine.js';
export type { OrtModule, OrtSession, OrtSessionOptions, OrtTensor, OrtValueMetadata } from './runtime/ort-module.js';
export { prefillFeeds } from './runtime/prefill-feeds.js';
export { releaseTensor, releaseTensors, retainTensor } from './runtime/tensor-memory.js';
export { createMemoryStore, createSpilledStore, type TensorStore } from './runtime/tensor-store.js';
export {
  type ChosenTokens,
  chooseTokens,
  type ProgressYield,
  type TokenSelection,
} from './vocabulary/choose-tokens.js';
export { cutVocabulary } from './vocabulary/cut-vocabulary.js';
export { type RenumberedIds, renumberIds } from './vocabulary/renumbered-ids.js';
export { renumberDocument } from './vocabulary/token-ids-in-documents.js';
export { type Merge, readTokenizerFile, type TokenizerFile, type TokenizerKind } from './vocabulary/tokenizer-file.js';
export { type GraphPart, traceVocabulary } from './vocabulary/trace-vocabulary.js';
export { trimTokenizer } from './vocabulary/trim-tokenizer.js';
export type { RowLiteral, TokenConstant, TokenTable, VocabularyTrace } from './vocabulary/vocabulary-trace.js';
