/** The platform-free stages of fang-prune: everything that needs neither a file system nor a particular runtime. */

export { default as ndarray } from 'ndarray';
export { addMoments, type BatchMoments, type ChannelMoments, startMoments } from './activations/channel-moments.js';
export { collectStatistics, createStatisticsMeter, type StatisticsTarget } from './activations/collect-statistics.js';
export { type CurvatureMeter, createCurvatureMeter } from './activations/curvature-meter.js';
export { createExampleMeter, type ExampleMeter, type FfnExample, sourceOf } from './activations/ffn-examples.js';
export type { PrunedFfn } from './activations/input-nodes.js';
export {
  type AffinityMeter,
  createAffinityMeter,
  type TokenContexts,
} from './activations/measure-affinity.js';
export {
  createInputMeter,
  type InputFactors,
  type InputMeter,
  type MeasuredInputs,
} from './activations/measure-inputs.js';
export { runMeters, type StageMeter } from './activations/stage-meter.js';
export { type BackwardMeter, type BackwardWalk, walkBackwards } from './activations/walk-backwards.js';
export { allocateSteps } from './allocation/allocate-steps.js';
export type {
  Allocation,
  AllocationProblem,
  BlockMeasure,
  MeasuredOrder,
  ModuleMeasures,
  OrderingMethod,
} from './allocation/allocation.js';
export { ALLOCATIONS } from './allocation/allocations.js';
export { allocateByThreshold, type ThresholdEntry } from './allocation/global.js';
export { outlierRatio } from './allocation/owl.js';
export { type SpreadRule, spreadByMeasure } from './allocation/spread-by-measure.js';
export { allocateStandardised, type StandardisedEntry } from './allocation/standardised.js';
export type { DetectedModel } from './architecture/detect-layout.js';
export type {
  ModelLayout,
  ModuleKind,
  OutputLinear,
  PrunableModule,
  Segment,
  Unrecognised,
} from './architecture/layout.js';
export {
  appendCrossEntropy,
  type CrossEntropy,
  type CrossEntropyOptions,
  type Softening,
} from './autodiff/cross-entropy.js';
export type { ForwardGraph } from './autodiff/forward-graph.js';
export { buildGradientGraph, type GradientGraph, type GradientProblem } from './autodiff/gradient-graph.js';
export {
  type CalibrationProvenance,
  type CalibrationSet,
  type CalibrationSetOptions,
  createCalibrationSet,
  type GeneratedProvenance,
} from './calibration/calibration-set.js';
export type { GeneratedSet } from './calibration/generated-set.js';
export { findEndTokens, findStartToken, requireStartToken, type TokenHints } from './calibration/start-token.js';
export type { TokenSource } from './calibration/token-source.js';
export { createTokenizer, type LimitTime, type Tokenizer } from './calibration/tokenizer.js';
export type {
  ChannelStatistics,
  Compensated,
  CompensationAdapter,
  ImportanceProblem,
  LinearWeight,
  PreparedImportance,
  StatisticsNeed,
} from './compensation/adapter.js';
export { createImportanceAdapter, type ImportanceAdapterOptions } from './compensation/importance-adapter.js';
export {
  conjugacy,
  createInputCurvature,
  type Gradients,
  type InputCurvature,
  type InputCurvatureProblem,
  lowestOnParabola,
} from './compensation/input-step.js';
export { createAdapter, METHODS, type Method, type MethodName, type MethodOptions } from './compensation/methods.js';
export { REPAIRS, type Repair, type RepairName } from './compensation/repairs.js';
export * from './errors.js';
export type { Bundle, BundleScore, ScoredSequence, SequenceScore } from './evaluation/bundle.js';
export {
  type ComparablePerplexity,
  comparePerplexities,
  explainPerplexities,
  type LogPerplexityDifference,
  type PerplexityComparison,
} from './evaluation/compare-perplexities.js';
export {
  type AccuracyDifference,
  type ComparisonOptions,
  compareResults,
  type PairedDifference,
  type TaskComparison,
  type Verdict,
} from './evaluation/compare-results.js';
export type { TextPair } from './evaluation/encode-pair.js';
export { explainComparison } from './evaluation/explain-comparison.js';
export { findOverlap, type Overlap } from './evaluation/find-overlap.js';
export {
  type BatchGenerationOptions,
  type GenerationOptions,
  generate,
  generateBatch,
  type TextGenerationOptions,
} from './evaluation/generate.js';
export {
  type GenerateCalibrationOptions,
  generateCalibration,
  type WindowStore,
} from './evaluation/generate-calibration.js';
export type { LanguageModel, Reader } from './evaluation/language-model.js';
export {
  type LogLikelihood,
  type LogLikelihoodOptions,
  measureLogLikelihoods,
} from './evaluation/log-likelihood.js';
export { mcNemarTest } from './evaluation/mcnemar.js';
export {
  type BiasFindings,
  type BiasInput,
  type ContextBias,
  type LossPair,
  measureBias,
  type ScoredText,
} from './evaluation/measure-bias.js';
export {
  type DivergenceModels,
  type DivergenceOptions,
  type DivergenceResult,
  measureDivergence,
} from './evaluation/measure-divergence.js';
export { measureTask, type TaskOptions } from './evaluation/measure-task.js';
export {
  formatPerplexityProtocol,
  measurePerplexity,
  measureTextPerplexity,
  type PerplexityOptions,
  type PerplexityProtocol,
  type PerplexityResult,
} from './evaluation/perplexity.js';
export type { ScoreLog } from './evaluation/score-log.js';
export type { WindowOptions } from './evaluation/scored-windows.js';
export { type SeenContexts, type SeenContextsRequest, seeContexts } from './evaluation/see-contexts.js';
export { createLanguageModel } from './evaluation/session-language-model.js';
export { compareSpeeds, type Speedup, type Spread, spreadOf } from './evaluation/speed.js';
export { type Candidate, readTaskItems, type TaskItem, type TaskKind } from './evaluation/task-items.js';
export type {
  ItemScore,
  LastWordAnswer,
  LastWordResult,
  MultipleChoiceAnswer,
  MultipleChoiceResult,
  TaskResult,
} from './evaluation/task-result.js';
export { measureTokenLosses } from './evaluation/token-losses.js';
export { adviseWidth, neighbouringWidths, type WidthAdvice, type WidthTiming } from './evaluation/width-advice.js';
export { joinEmbedding, withoutFront } from './graph/join-embedding.js';
export { type ClusteringInput, type Contexts, clusterContexts } from './grouping/cluster-contexts.js';
export { ASSIGNMENTS, type GroupingInput, groupNeurons, type NeuronGroups } from './grouping/group-neurons.js';
export { assignContexts } from './grouping/refine-centers.js';
export {
  type CurvePoint,
  type Healed,
  type HealingReport,
  type HealingRequest,
  type HealingSettings,
  healModel,
  type SavedTraining,
  type TrainedName,
  type TrainingFacts,
} from './healing/heal-model.js';
export { EXPERT_SCORES, type ExpertScoreRow, type ExpertStatistics } from './importance/expert-scores.js';
export {
  buildHessian,
  type DampenedHessian,
  factoriseChannels,
  factoriseHessian,
  type Hessian,
  type HessianFactor,
  type HessianOptions,
} from './importance/hessian.js';
export type { ImportanceScore } from './importance/importance-score.js';
export { METRICS, type Metric } from './importance/metrics.js';
export { scoreByObc } from './importance/obc.js';
export { orderByObc, type RemovalOrder } from './importance/obc-order.js';
export { type MetricWeight, weightInMetric } from './importance/weight-in-metric.js';
export { fitPca, type Pca, type PcaRequest, projectPoints } from './linalg/pca.js';
export { createRandom, type Random } from './linalg/random.js';
export type { ByteSink, ByteSource, SinkFolder, SourceFolder } from './onnx/byte-source.js';
export { copyModel } from './onnx/edit-weights.js';
export { loadModel } from './onnx/load-model.js';
export { createMemoryFolder } from './onnx/memory-folder.js';
export type { GraphFront, ModelStorage, OnnxModel, TensorHandle } from './onnx/onnx-model.js';
export { type SavedModel, type SaveOptions, saveModel } from './onnx/save-model.js';
export * from './options.js';
export type { JobControl, Progress, ProgressListener } from './progress.js';
export { allocateModules, type StepCounts } from './prune/budget/allocate-modules.js';
export type { ModuleOutcome, PruneJob, PruneOutcome, StageTiming } from './prune/job.js';
export type {
  BackwardMeasures,
  DenseMeasures,
  DenseNeeds,
  ForwardMeasures,
  FunctionalModule,
  ModuleContexts,
} from './prune/measure-dense/dense-measures.js';
export { type DensePasses, startDensePasses } from './prune/measure-dense/dense-passes.js';
export { measureBackwards } from './prune/measure-dense/measure-backwards.js';
export { type MeasuredModel, measureDense } from './prune/measure-dense/measure-dense.js';
export { measureForwards } from './prune/measure-dense/measure-forwards.js';
export { type ContextPlace, type PruneContext, startContext } from './prune/prune-context.js';
export { type MeasuredResult, type PruneExtras, pruneMeasured, pruneModel } from './prune/prune-model.js';
export type { RefinedModule, Refinement, SegmentRefinement } from './prune/refine/refinement.js';
export { REFINEMENTS } from './prune/refine/refinements.js';
export { type MeasureRequest, measureModules } from './prune/shrink/measure-modules.js';
export { type SegmentCase, scoreSegment } from './prune/shrink/score-segment.js';
export {
  type ModelEdits,
  type ModuleShrinking,
  type ShrunkModule,
  shrinkModule,
} from './prune/shrink/shrink-module.js';
export { type Shrinking, type Shrunk, shrinkBlocks } from './prune/shrink-blocks.js';
export { applyChange, type ModelChange, type ModuleCut } from './removal/apply-change.js';
export { type Choice, type ChoiceInput, chooseChannels, type ScoredGroup } from './removal/choose-channels.js';
export { chooseHeads, type HeadChoice, type HeadChoiceInput } from './removal/choose-heads.js';
export { findInputMaps, type InputMap, type InputMapsRequest } from './removal/input-maps.js';
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
export type { Engine, Session, SessionOptions, Tensor, Tensors, TensorType } from './runtime/engine.js';
export { createOrtEngine, type OrtEngineOptions } from './runtime/ort-engine.js';
export type {
  OrtModule,
  OrtSession,
  OrtSessionOptions,
  OrtTensor,
  OrtValueMetadata,
} from './runtime/ort-module.js';
export { prefillFeeds } from './runtime/prefill-feeds.js';
export { putEmbeddingInFront } from './runtime/put-embedding-in-front.js';
export { releaseTensor, releaseTensors, retainTensor } from './runtime/tensor-memory.js';
export {
  createMemoryStore,
  createSpilledStore,
  type ScratchFile,
  type TensorStore,
} from './runtime/tensor-store.js';
export {
  type ChosenTokens,
  chooseTokens,
  type ProgressYield,
  type TokenCounts,
  type TokenSelection,
} from './vocabulary/choose-tokens.js';
export { cutVocabulary, idsNamedByGraph } from './vocabulary/cut-vocabulary.js';
export { LANGUAGES, type Language } from './vocabulary/languages.js';
export { type RenumberedIds, renumberIds } from './vocabulary/renumbered-ids.js';
export { idsNamedByDocument, renumberDocument } from './vocabulary/token-ids-in-documents.js';
export { type Merge, readTokenizerFile, type TokenizerFile, type TokenizerKind } from './vocabulary/tokenizer-file.js';
export { type GraphPart, traceVocabulary } from './vocabulary/trace-vocabulary.js';
export { idsNamedByTokenizer, trimTokenizer } from './vocabulary/trim-tokenizer.js';
export type { RowLiteral, TokenConstant, TokenTable, VocabularyTrace } from './vocabulary/vocabulary-trace.js';
export { type Temperature, type WeightingInput, weightContexts, weightTokens } from './weighting/weight-contexts.js';
export { WEIGHTING_VARIANTS, type WeightingName, type WeightingVariant } from './weighting/weighting-variants.js';
