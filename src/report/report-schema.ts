import type { OutputError } from '../activations/measure-output-error.js';
import type { ModuleKind } from '../architecture/layout.js';
import type { CalibrationProvenance } from '../calibration/calibration-set.js';
import type { RepairNumerics } from '../compensation/adapter.js';
import type { PredictionComparison } from '../evaluation/compare-predictions.js';
import type { HeldOutOrigin } from '../evaluation/held-out-windows.js';
import type { BiasFindings } from '../evaluation/measure-bias.js';
import type { PerplexityProtocol } from '../evaluation/perplexity.js';
import type { HealingReport } from '../healing/heal-model.js';
import type { AllocationCandidate, StageTiming } from '../prune/job.js';
import type { TokenCounts } from '../vocabulary/choose-tokens.js';

/** Value of `schema`; the number rises when a field changes its meaning or is removed. */
export const REPORT_SCHEMA = 'fang-prune-report/1';

/** Any value of JSON. */
export type JsonValue =
  | null
  | boolean
  | number
  | string
  | readonly JsonValue[]
  | { readonly [key: string]: JsonValue | undefined };

/**
 * Result of a pruning run, as plain data: the contents of `fang-prune-report.json`. Readers must not rely on optional fields,
 * and must ignore unknown ones.
 */
export interface PruneReport {
  readonly schema: typeof REPORT_SCHEMA;
  /** Version of this library. */
  readonly version: string;
  /** Time at the end of the run, ISO 8601. */
  readonly createdAt?: string;
  readonly environment?: EnvironmentReport;
  /** The model as given; saved reports have names instead of absolute paths, see `withoutPaths`. */
  readonly model: string;
  /** Origin of a downloaded model; absent for a local folder. */
  readonly hub?: HubOrigin;
  /** Folder written; absent for a dry run. */
  readonly out?: string;
  readonly method: string;
  /** All options of the run, with defaults; infinite numbers as `"Infinity"`. */
  readonly settings: Readonly<Record<string, JsonValue>>;
  /** Key of runs with the same result; absent for a dry run, and if the run has no key. */
  readonly run?: string;
  readonly sparsity: {
    readonly requested: number;
    /** Fraction of the selected modules' parameters removed. */
    readonly achieved: number;
    /** Fraction of all parameters removed. */
    readonly ofAllParameters: number;
  };
  readonly parameters: BeforeAfter;
  /** Model file with its external data; `after` is predicted in a dry run. */
  readonly bytes: BeforeAfter;
  readonly blocks: readonly BlockReport[];
  /** Dtypes of the written model, if requested; `bytes.after` and the certificate are those of the first. */
  readonly dtypes?: readonly DtypeReport[];
  /** All modules of the model, including unpruned ones. */
  readonly modules: readonly ModuleReport[];
  /** Quality of the written model's predictions; absent if nothing was written, or it could not be measured. */
  readonly quality?: QualityReport;
  /** Measured figures of the dense and the pruned model. */
  readonly metrics?: readonly MetricReport[];
  /** Text that both models generate after the same prompts. */
  readonly samples?: readonly SampleReport[];
  /** All rungs of the run's ladder, the dense model first; present when the entire ladder is complete. */
  readonly ladder?: readonly RungReport[];
  /** This run, and compared runs of the same dense model. */
  readonly beside?: readonly BesideReport[];
  /** Cost of pruning on other texts than the calibration's. */
  readonly bias?: readonly BiasReport[];
  readonly seed: number;
  /** Absent for methods that read no token. */
  readonly calibration?: CalibrationProvenance;
  /** Statistics of the dense model that the run read; absent if it measured the model. */
  readonly statistics?: StatisticsReport;
  /** Allocations that were compared on held-out calibration windows, with the chosen one; absent without a comparison. */
  readonly candidates?: readonly AllocationCandidate[];
  /** Models that were compared for a target size; absent without one. */
  readonly size?: SizeReport;
  /** The trimmed vocabulary; absent without trimming. */
  readonly vocabulary?: ResultVocabularyReport;
  /** Healing of the pruned model; absent if it was not requested. */
  readonly healing?: HealingReport;
  /** Comparison of the written model with the masked original; absent if nothing was written or compared. */
  readonly certificate?: CertificateReport;
  /** Files next to the model; absent for a dry run. */
  readonly sideFiles?: SideFilesReport;
  readonly timings: readonly StageTiming[];
  /** Largest resident memory of the process, if the platform measures it. */
  readonly peakMemoryBytes?: number;
  readonly remarks: readonly string[];
}

/** Files next to a model, relative to its folder, with `/`. */
export interface SideFilesReport {
  /** Files copied into the result. */
  readonly copied: readonly string[];
  /** Number of files and folders that were not copied, in the folders that runtimes read. */
  readonly leftCount: number;
  /** The first of them by name. Only in a call's result: saved reports may be published. */
  readonly left?: readonly string[];
}

/** A model of the Hugging Face Hub at one commit. */
export interface HubOrigin {
  /** `org/name` */
  readonly repo: string;
  /** Requested branch, tag or commit. */
  readonly revision: string;
  /** The commit at that time, 40 hexadecimal digits. */
  readonly commit: string;
  /** License in the model's card; absent if the card has none, or was not read. */
  readonly license?: string;
}

/**
 * Comparison of the written model, opened by ONNX Runtime and run with its cache, with the masked original: the dense graph
 * with the removed channels zeroed and the repairs applied. A run that does not pass fails.
 */
export interface CertificateReport {
  readonly windows: number;
  /** Tokens whose logits were compared. */
  readonly tokens: number;
  /** See `HeldOutWindows`. */
  readonly from: HeldOutOrigin;
  /**
   * Whether ONNX Runtime opened the written model by its path. Otherwise it was run block by block, with unsupported operators
   * lowered: the installed runtime runs neither it nor the original, or the entire model does not fit in memory.
   */
  readonly opened: boolean;
  /**
   * Largest difference from a logit of the masked original, as a fraction of the range of its logits. If rounding affects
   * routers of experts: the largest difference of the median token.
   */
  readonly gap: number;
  /**
   * Gap between two runs of the masked original: unchanged, and with every cut linear layer's weights moved to a neighbouring
   * number and no operators fused. This is the size of rounding errors in the model.
   */
  readonly rounding: number;
  /**
   * Gap between the dense model's logits by its kernels and in float32. Measured only if the gap is larger than `rounding`
   * explains.
   */
  readonly kernelNoise?: number | undefined;
  /**
   * Gap of the written graph computed in float32. Measured only if its products round activations, or the gap is larger than
   * `rounding` explains.
   */
  readonly gapInFloat32?: number | undefined;
  /** Largest gap that passes; follows from `rounding`, and from `kernelNoise` if measured. */
  readonly tolerance: number;
  readonly passed: true;
}

/**
 * Predictions of the written model compared with the dense one's, on held-out windows. Both were opened by path, as by
 * their users.
 */
export interface QualityReport extends PredictionComparison {
  /** See `HeldOutWindows`; with `calibration`, no other text was available, and the figures are too favourable. */
  readonly from: Exclude<HeldOutOrigin, 'random'>;
  /** Windows that were read. */
  readonly protocol: PerplexityProtocol;
}

/** A model in one dtype, or in the codes of its source. */
export interface DtypeReport {
  /** Name in transformers.js; `own` for the form of the source. */
  readonly dtype: string;
  /** Model file, relative to `out`. */
  readonly file: string;
  /** Model file with its external data. */
  readonly bytes: number;
  /** Bytes of weights by part; tied weights count as the embedding, and `other` is everything except large matrices. */
  readonly parts: Readonly<Record<'ffn' | 'attention' | 'embedding' | 'head' | 'other', number>>;
  /** Costs of pruning and rounding; absent without calibration windows, or if activations are rounded too. */
  readonly divergence?: DivergenceReport;
  /** Rounding of the linear layers; absent if all weights were rounded to the nearest level. */
  readonly rounding?: RoundingReport;
  /** Training of the rounded model; absent without healing, or for dtypes of more than four bits. */
  readonly healing?: HealingReport;
  readonly certificate?: CertificateReport;
  /** Quality of this file, as that of the report. */
  readonly quality?: QualityReport;
}

/** Divergence of a written model's predictions from the dense one's: means of KL(dense || model), in nats per token. */
export interface DivergenceReport {
  /** Number of windows that were not used for rounding. */
  readonly windowCount: number;
  /** Divergence of the pruned model in floats. */
  readonly pruning: number;
  /** Cost that rounding adds. */
  readonly quantising: number;
  /** Cost that rounding to the nearest level would add; absent if this was done. */
  readonly nearest?: number;
}

/** Rounding of the measured linear layers of a model. */
export interface RoundingReport {
  /** Numbers of linear layers rounded with error feedback, and to the nearest levels, where this was better. */
  readonly learned: number;
  readonly nearest: number;
  /** Geometric mean over the linear layers of the cost on held-out tokens, divided by that of the nearest levels. */
  readonly costRatio: number;
}

/** Choice of a model for a target size. */
export interface SizeReport {
  /** Largest allowed bytes. */
  readonly target: number;
  /** Tokens of the KV cache that counts in `target` and `bytes`; absent: only files count. */
  readonly contextLength?: number;
  /** Allowed reductions. */
  readonly allow: readonly string[];
  /** Models that were measured on held-out windows; those of one dtype first. */
  readonly candidates: readonly SizeCandidateReport[];
}

/** A measured draft for a target size: calibrated on fewer windows than the result. */
export interface SizeCandidateReport {
  /** `plain`: one dtype, all units. `bits`: several dtypes or block sizes. `pruned`: one dtype, fewer units. `mixture`: both. */
  readonly kind: 'plain' | 'bits' | 'pruned' | 'mixture';
  /** Model file with its external data. */
  readonly bytes: number;
  /** Fraction of the prunable parameters removed. */
  readonly sparsity: number;
  /** Number of linear layers by dtype and block size: `q4` has blocks of 32, `q4/64` of 64. */
  readonly maps: Readonly<Record<string, number>>;
  /** Parts of the mean KL(dense || draft), in nats per token. */
  readonly divergence: { readonly pruning: number; readonly quantising: number };
  /** Estimate before the measurement, in nats per token. */
  readonly predicted?: number;
  readonly chosen: boolean;
}

/** Result of trimming a vocabulary. */
export interface VocabularyReport {
  /** Rows of the vocabulary: the tokenizer's tokens, and padding. */
  readonly rows: BeforeAfter;
  /** Tokens of the tokenizer, including added ones. */
  readonly tokens: BeforeAfter;
  /** Remaining tokens by reason. */
  readonly reasons: TokenCounts;
  /** Merges of BPE; absent for other tokenizers. */
  readonly merges?: BeforeAfter;
  /** Bytes of the model and its embedding model, if any, with external data. */
  readonly bytes: BeforeAfter;
  /** Weights that were cut. */
  readonly tables: readonly { readonly name: string; readonly rows: BeforeAfter; readonly bytes: BeforeAfter }[];
}

/** Comparison of the logits of remaining tokens with the original's. */
export interface TrimmingCertificate {
  /** Windows read by both models. */
  readonly windows: number;
  /** Tokens read. */
  readonly tokens: number;
  /** Largest difference of logits of a remaining token, as a fraction of the range of logits. */
  readonly gap: number;
  /** Whether all these logits are bit-identical. */
  readonly equal: boolean;
  /** Largest gap that counts as rounding. */
  readonly tolerance: number;
}

/** The trimmed vocabulary of a result. Other figures of its report compare the result with the trimmed model. */
export interface ResultVocabularyReport extends VocabularyReport {
  /** Bits per byte of a text that did not affect the selection of tokens; absent if quality was not measured. */
  readonly bitsPerByte?: TrimmingCost;
  readonly certificate?: TrimmingCertificate;
}

/** Bits per byte of a text, with all and with the remaining tokens. */
export interface TrimmingCost extends BeforeAfter {
  /** `source`: the last quarter of the user's text. `text`: the bundled text that results are checked on. */
  readonly from: 'source' | 'text';
  /** UTF-8 bytes of the text. */
  readonly textBytes: number;
}

/** Statistics that an earlier run saved. */
export interface StatisticsReport {
  readonly file: string;
  /** SHA-256 of the file with their tensors. */
  readonly sha256: string;
}

export interface BeforeAfter {
  readonly before: number;
  readonly after: number;
}

/** One model of a ladder. */
export interface RungReport {
  /** Fraction of the selected modules' parameters to remove, and removed; 0 for the dense model. */
  readonly requested: number;
  readonly achieved: number;
  /** Folder written; absent for the dense model and for a dry run. */
  readonly out?: string;
  readonly parameters: number;
  /** Model file with its external data. */
  readonly bytes: number;
  /** Perplexities on the evaluated texts, or else on the held-out windows; the same texts in every rung. */
  readonly perplexities?: readonly RungPerplexity[];
}

/** One of several compared runs of the same dense model. */
export interface BesideReport {
  /** Folder written, or the report's path. */
  readonly name: string;
  readonly method: string;
  readonly seed: number;
  /** Fraction of the selected modules' parameters to remove, and removed. */
  readonly requested: number;
  readonly achieved: number;
  readonly parameters: number;
  /** Model file with its external data. */
  readonly bytes: number;
  readonly metrics: readonly MetricReport[];
}

/** A prompt, and its greedy continuation by each model. */
export interface SampleReport {
  readonly prompt: string;
  readonly dense: string;
  readonly pruned: string;
}

/** A rung's perplexity on one text. */
export interface RungPerplexity {
  readonly text: string;
  readonly perplexity: number;
  readonly protocol?: PerplexityProtocol;
}

/** One figure of the dense and the pruned model. */
export interface MetricReport {
  readonly kind: 'perplexity' | 'accuracy' | 'speed' | 'memory' | 'other';
  /** Name of the text, task or speed: `wiki.txt`, `reading a prompt`, ... */
  readonly name: string;
  /** Absent if only the pruned model was measured. */
  readonly dense?: number;
  readonly pruned: number;
  /** A text's loss in bits per byte, which compares models with different tokenizers. */
  readonly bitsPerByte?: { readonly dense?: number; readonly pruned: number };
  /** `tokens/s`, `%`, ...; absent for bare numbers. Accuracies are fractions. */
  readonly unit?: string;
  readonly better: 'lower' | 'higher';
  /** Standard errors of the two figures. */
  readonly standardErrors?: { readonly dense?: number; readonly pruned: number };
  /**
   * 95 % interval of the change, from paired windows, items or rounds: of `pruned / dense - 1`, for accuracies of
   * `pruned - dense`. Absent if unknown.
   */
  readonly changeInterval?: readonly [low: number, high: number];
  /** Verdict about the pruned model by a paired test; `same` = no difference beyond noise. */
  readonly verdict?: 'same' | 'worse' | 'better';
  /** Protocol of a perplexity. */
  readonly protocol?: PerplexityProtocol;
  /** Description of the measurement, in a line. */
  readonly note?: string;
}

/** Cost of pruning on the calibration text and on another one, context by context. */
export interface BiasReport extends BiasFindings {
  /** The other text. */
  readonly name: string;
  /** Block of the dense model whose FFN inputs are clustered into contexts. */
  readonly block: number;
  readonly windowLength: number;
  /** Description of each context, in both texts. */
  readonly described: readonly ContextReport[];
}

/** Machine and engine of a run, if known to the platform. */
export interface EnvironmentReport {
  /** Such as `Node.js 20.11.0`. */
  readonly runtime: string;
  /** Such as `linux x64`. */
  readonly platform: string;
  readonly onnxRuntime?: string;
  readonly executionProvider?: string;
  /** Threads per operator; absent if ONNX Runtime chose them (`threads: 0`, WebAssembly). */
  readonly threads?: number;
  readonly cpu?: string;
}

export interface BlockReport {
  readonly index: number;
  /** Fraction of the block's prunable parameters removed. */
  readonly sparsity: number;
  /** Block change of the dense model: 1 minus the mean cosine of input and output; absent if not measured. */
  readonly change?: number;
}

export interface ModuleReport {
  readonly block: number;
  readonly kind: ModuleKind;
  /** Neurons of an FFN, query heads of attention, experts of a mixture. */
  readonly unitsBefore: number;
  readonly unitsAfter: number;
  readonly parametersBefore: number;
  readonly parametersAfter: number;
  /** Fraction of the module's parameters removed. */
  readonly sparsity: number;
  /** Remaining units in the order of the written model: ascending, except for reordered neurons of models quantised in blocks. */
  readonly keep: readonly number[];
  /** Neurons of each expert of a mixture; absent if all remain. */
  readonly neurons?: BeforeAfter;
  /** Error of the module's output on the calibration tokens; absent if nothing was removed or no token was read. */
  readonly error?: OutputError;
  /** Numerics of the repair, of function groups in `groups`; absent for repairs without a linear system. */
  readonly numerics?: RepairNumerics;
  /** Function groups of neurons (FANG). */
  readonly groups?: readonly GroupReport[];
  /** Contexts of the function groups, by index; of a mixture, the contexts in `routing`. */
  readonly contexts?: readonly ContextReport[];
  readonly affinity?: AffinityReport;
  /** Routing of a mixture's tokens by context; absent if they were not clustered. */
  readonly routing?: RoutingReport;
  /** Tokens with the largest activations of the kept units, and of the removed ones; absent if no text was read or quoted. */
  readonly topTokens?: TopTokensReport;
  /** Predicted cost of removing units of the module, for allocations that compare these costs. */
  readonly costCurve?: CostCurve;
}

/** Tokens that activate a module's units in the dense model, for kept and for removed units. */
export interface TopTokensReport {
  /** Fraction of the summed squared outputs of single units that comes from kept units. */
  readonly keptShare: number;
  /** Tokens that activate kept units more than usual. */
  readonly kept: ContextReport;
  /** The others. */
  readonly removed: ContextReport;
}

/** Predicted cost by fraction removed, in units that all modules of a run share. */
export interface CostCurve {
  /** Fractions of the module's removal steps, ascending, from 0. */
  readonly removed: readonly number[];
  /** Cumulative cost of the steps. */
  readonly cost: readonly number[];
}

/** Experts of the tokens of each context, in the dense model. */
export interface RoutingReport {
  /** Tokens of a context that go to an expert: `tokens[context][expert]`; each token goes to several. `keep` lists the remaining experts. */
  readonly tokens: readonly (readonly number[])[];
  /**
   * Normalised mutual information of contexts and experts of tokens, from 0 (independent) to 1 (each determines the other):
   * `2 I / (H(context) + H(expert))`.
   */
  readonly mutualInformation: number;
}

/** Neurons that serve one context, or many. */
export interface GroupReport {
  readonly kind: 'shared' | 'function';
  /** Context that a function group serves. */
  readonly context?: number;
  /** Neurons of the dense model, ascending. */
  readonly members: readonly number[];
  readonly keptCount: number;
  readonly numerics?: RepairNumerics;
}

/** A cluster of calibration tokens by the input of one FFN or mixture of the dense model. */
export interface ContextReport {
  readonly tokenCount: number;
  /** Characteristic tokens, the most overrepresented first; absent when texts are not quoted. */
  readonly tokens?: readonly ContextToken[];
  /** Tokens near the cluster's center, with the text around them; absent when texts are not quoted. */
  readonly examples?: readonly ContextExample[];
}

/** A token that is more frequent in a context than elsewhere. */
export interface ContextToken {
  readonly text: string;
  /** Number of occurrences in the context. */
  readonly count: number;
  /** Frequency in the context divided by the frequency among all calibration tokens. */
  readonly lift: number;
}

/** A token with some characters around it. */
export interface ContextExample {
  readonly before: string;
  readonly token: string;
  readonly after: string;
}

/** Summary of the affinity matrix: neurons of each group, strongest first, averaged into a few columns. */
export interface AffinityReport {
  readonly columns: readonly {
    /** Index into `groups`. */
    readonly group: number;
    readonly neuronCount: number;
    readonly keptCount: number;
  }[];
  /** Mean affinity of a column's neurons by context: `values[context][column]`, mean of |h dL/dh| in nats. */
  readonly values: readonly (readonly number[])[];
}
