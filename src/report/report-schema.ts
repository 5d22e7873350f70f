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

/** Anything JSON can hold. */
export type JsonValue =
  | null
  | boolean
  | number
  | string
  | readonly JsonValue[]
  | { readonly [key: string]: JsonValue | undefined };

/**
 * Result of a pruning run, as plain data: the contents of `fang-prune-report.json`. Optional fields are absent where a run has
 * nothing to tell: readers must not rely on them, and must pass over fields they do not know.
 */
export interface PruneReport {
  readonly schema: typeof REPORT_SCHEMA;
  /** Version of this library. */
  readonly version: string;
  /** When the run ended, ISO 8601. */
  readonly createdAt?: string;
  readonly environment?: EnvironmentReport;
  /** As the user called it; in what is saved, absolute paths are names alone, see `withoutPaths`. */
  readonly model: string;
  /** Where the model was downloaded from; absent for one that lay in a folder. */
  readonly hub?: HubOrigin;
  /** Folder written; absent for a dry run. */
  readonly out?: string;
  readonly method: string;
  /** Every option of the run with its default filled in; infinite numbers as `"Infinity"`. */
  readonly settings: Readonly<Record<string, JsonValue>>;
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
  /** Dtypes of the written model, where requested; `bytes.after` and the certificate are the first one's. */
  readonly dtypes?: readonly DtypeReport[];
  /** Every module of the model, those that were left alone included. */
  readonly modules: readonly ModuleReport[];
  /** Loss of the written model's predictions; absent where nothing was written, or it could not be measured. */
  readonly quality?: QualityReport;
  /** Measured figures of the dense and the pruned model. */
  readonly metrics?: readonly MetricReport[];
  /** Text that both models generate after the same prompts. */
  readonly samples?: readonly SampleReport[];
  /** Every rung of the ladder that the run was part of, the dense model first; there when the whole ladder has ended. */
  readonly ladder?: readonly RungReport[];
  /** This run, and others of the same dense model that were laid next to it. */
  readonly beside?: readonly BesideReport[];
  /** Cost of pruning on other texts than the calibration's. */
  readonly bias?: readonly BiasReport[];
  readonly seed: number;
  /** Absent for methods that read no token. */
  readonly calibration?: CalibrationProvenance;
  /** Saved statistics of the dense model that the run was made from; absent where the model itself was measured. */
  readonly statistics?: StatisticsReport;
  /** Allocations that were compared on held-out calibration windows, and which was taken; absent where there was one alone. */
  readonly candidates?: readonly AllocationCandidate[];
  /** Models that were compared for a size; absent where none was requested. */
  readonly size?: SizeReport;
  /** The trimmed vocabulary; absent where no token was to be removed. */
  readonly vocabulary?: ResultVocabularyReport;
  /** How the pruned model learnt from the dense one; absent where it was not asked for. */
  readonly healing?: HealingReport;
  /** That the written model computes what the masked original does; absent where nothing was written or compared. */
  readonly certificate?: CertificateReport;
  /** Files next to the model; absent for a dry run. */
  readonly sideFiles?: SideFilesReport;
  readonly timings: readonly StageTiming[];
  /** Largest resident memory of the process, where the platform tells. */
  readonly peakMemoryBytes?: number;
  readonly remarks: readonly string[];
}

/** Files next to a model, relative to its folder, with `/`. */
export interface SideFilesReport {
  /** Copied into the result. */
  readonly copied: readonly string[];
  /** Files and folders that were not, in the folders that runtimes read. */
  readonly leftCount: number;
  /** The first of them by name; in what a call returns alone, for what is saved may be published. */
  readonly left?: readonly string[];
}

/** A model of the Hugging Face Hub, as it was at one moment. */
export interface HubOrigin {
  /** `org/name` */
  readonly repo: string;
  /** Branch, tag or commit that was asked for. */
  readonly revision: string;
  /** The commit at that time, 40 hexadecimal digits. */
  readonly commit: string;
  /** As the model's card says; absent where it does not, or was not asked. */
  readonly license?: string;
}

/**
 * How the model that was written, opened by ONNX Runtime and run with its cache, compares with the masked original: the dense
 * graph with the removed channels zeroed and the repairs applied. A run that does not pass fails.
 */
export interface CertificateReport {
  readonly windows: number;
  /** Tokens whose logits were compared. */
  readonly tokens: number;
  /** See `HeldOutWindows`. */
  readonly from: HeldOutOrigin;
  /**
   * Whether ONNX Runtime opened the written model by its path. Else it was read block by block with operators written out: the
   * installed runtime runs neither it nor the original as they are, or the machine has too little memory for the entire model.
   */
  readonly opened: boolean;
  /**
   * Farthest that a logit lies from the masked original's, as a fraction of the range of those; where experts are chosen in rounded
   * numbers, the farthest of the token in the middle.
   */
  readonly gap: number;
  /**
   * Gap between two runs of the masked original: unchanged, and with every cut linear layer's weights moved to a neighbouring
   * number and no operators fused. This is the size of rounding errors in the model.
   */
  readonly rounding: number;
  /**
   * How far the kernels of the dense model move its logits, relative to their range. Measured only where the gap is more than
   * `rounding` explains.
   */
  readonly kernelNoise?: number | undefined;
  /**
   * The gap of the written graph computed in float32, by weights as they were written. Measured where its products round activations, or
   * the gap is more than `rounding` explains.
   */
  readonly gapInFloat32?: number | undefined;
  /** Largest gap that passes; follows from `rounding`, and from `kernelNoise` where that was measured. */
  readonly tolerance: number;
  readonly passed: true;
}

/**
 * How well the written model predicts the next token compared with the dense one, on some windows that the run did not learn from. Both
 * were opened as their users open them.
 */
export interface QualityReport extends PredictionComparison {
  /** See `HeldOutWindows`; where it is `calibration`, no text was left, and the figures flatter the pruned model. */
  readonly from: Exclude<HeldOutOrigin, 'random'>;
  /** Text that was read. */
  readonly protocol: PerplexityProtocol;
}

/** A model in one dtype, or in the codes that it came in. */
export interface DtypeReport {
  /** As transformers.js names it; `own` for a model that keeps the form it came in. */
  readonly dtype: string;
  /** Model file, relative to `out`. */
  readonly file: string;
  /** Model file with its external data. */
  readonly bytes: number;
  /** Bytes of weights by part; tied weights count as the embedding, and `other` is all that is not a large matrix. */
  readonly parts: Readonly<Record<'ffn' | 'attention' | 'embedding' | 'head' | 'other', number>>;
  /** Costs of pruning and rounding; absent without calibration windows, or where activations are rounded too. */
  readonly divergence?: DivergenceReport;
  /** How the linear layers were rounded; absent where every weight went to the nearest level by itself. */
  readonly rounding?: RoundingReport;
  readonly certificate?: CertificateReport;
  /** As the report's own, of this file. */
  readonly quality?: QualityReport;
}

/** How far a written model's predictions are from the dense one's: means of KL(dense || model), in nats per token. */
export interface DivergenceReport {
  /** Windows that rounding did not learn from. */
  readonly windowCount: number;
  /** Of the pruned model in floats. */
  readonly pruning: number;
  /** Cost that rounding adds. */
  readonly quantising: number;
  /** Cost that rounding every weight to the nearest level would add; absent where that was done. */
  readonly nearest?: number;
}

/** How the linear layers of a model were rounded, those that were measured. */
export interface RoundingReport {
  /** Maps whose errors make up for each other, and those that were better rounded to the nearest levels. */
  readonly learned: number;
  readonly nearest: number;
  /** Geometric mean over the linear layers of what rounding costs on held-out tokens, by what the nearest levels would cost. */
  readonly costRatio: number;
}

/** How a size was met. */
export interface SizeReport {
  /** Bytes that were asked for, at most. */
  readonly target: number;
  /** Tokens whose keys and values count too, here and in the candidates' bytes; absent: files alone do. */
  readonly contextLength?: number;
  /** Ways to make the model smaller that were allowed. */
  readonly allow: readonly string[];
  /** Models that were measured on held-out windows, those with one number of bits first. */
  readonly candidates: readonly SizeCandidateReport[];
}

/** A model that was measured for a size; drafts, which learned from fewer windows than the result. */
export interface SizeCandidateReport {
  /** `plain`: one dtype, all units. `bits`: several dtypes. `pruned`: one dtype, fewer units. `mixture`: both. */
  readonly kind: 'plain' | 'bits' | 'pruned' | 'mixture';
  /** Model file with its external data. */
  readonly bytes: number;
  /** Fraction of the prunable parameters that is gone. */
  readonly sparsity: number;
  /** Number of linear layers by dtype. */
  readonly maps: Readonly<Record<string, number>>;
  /** Parts of the mean KL(dense || draft), in nats per token. */
  readonly divergence: { readonly pruning: number; readonly quantising: number };
  /** Estimate before the measurement, in nats per token. */
  readonly predicted?: number;
  readonly chosen: boolean;
}

/** Result of trimming a vocabulary. */
export interface VocabularyReport {
  /** Rows of the vocabulary: those of the tokenizer's tokens and of the padding behind them. */
  readonly rows: BeforeAfter;
  /** Tokens of the tokenizer, added ones included. */
  readonly tokens: BeforeAfter;
  /** Tokens that remain, by why. */
  readonly reasons: TokenCounts;
  /** Merges of BPE; absent for other tokenizers. */
  readonly merges?: BeforeAfter;
  /** Bytes of the model and, where it has one, the embedding model, external data included. */
  readonly bytes: BeforeAfter;
  /** Weights that were cut. */
  readonly tables: readonly { readonly name: string; readonly rows: BeforeAfter; readonly bytes: BeforeAfter }[];
}

/** How the logits of tokens that remained compare with the original's. */
export interface TrimmingCertificate {
  /** Windows read by both models. */
  readonly windows: number;
  /** Tokens read. */
  readonly tokens: number;
  /** Largest difference of two logits of a token that remained, as a fraction of the range of logits. */
  readonly gap: number;
  /** Whether every such logit has the same bits. */
  readonly equal: boolean;
  /** Largest gap that is taken for rounding. */
  readonly tolerance: number;
}

/** The vocabulary that a result was made with; other sizes and figures of its report compare it with the trimmed model. */
export interface ResultVocabularyReport extends VocabularyReport {
  /** Bits for each byte of a text that no token was kept for; absent where quality was not measured. */
  readonly bitsPerByte?: TrimmingCost;
  readonly certificate?: TrimmingCertificate;
}

/** Bits for each byte of a text, with all tokens and with those that remain. */
export interface TrimmingCost extends BeforeAfter {
  /** `source`: the last quarter of the user's text. `text`: the bundled text that results are checked on. */
  readonly from: 'source' | 'text';
  /** UTF-8 bytes of the text. */
  readonly textBytes: number;
}

/** Statistics that an earlier run saved. */
export interface StatisticsReport {
  readonly file: string;
  /** SHA-256 of their tensors. */
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
  /** By text, the same in every rung: those that were given, else the held-out windows. */
  readonly perplexities?: readonly RungPerplexity[];
}

/** A run among others of the same dense model. */
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

/** A prompt, and how each model continues it when it takes the likeliest token each time. */
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
  /** Name of what was measured: a text, a task, `prefill`, ... */
  readonly name: string;
  /** Absent where only the pruned model was measured. */
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
   * `pruned - dense`. Absent where it is not known.
   */
  readonly changeInterval?: readonly [low: number, high: number];
  /** Verdict about the pruned model by a paired test; `same` = no difference beyond noise. */
  readonly verdict?: 'same' | 'worse' | 'better';
  /** Protocol of a perplexity. */
  readonly protocol?: PerplexityProtocol;
  /** How it was measured, in a line. */
  readonly note?: string;
}

/** Cost of pruning on the calibration text and on another one, context by context. */
export interface BiasReport extends BiasFindings {
  /** The other text. */
  readonly name: string;
  /** Block of the dense model in whose FFN's input the contexts are seen. */
  readonly block: number;
  readonly windowLength: number;
  /** Description of each context, in both texts. */
  readonly described: readonly ContextReport[];
}

/** Where a run took place, as far as the platform tells. */
export interface EnvironmentReport {
  /** `Node.js 20.11.0`, say. */
  readonly runtime: string;
  /** `linux x64`, say. */
  readonly platform: string;
  readonly onnxRuntime?: string;
  readonly executionProvider?: string;
  /** Threads that share one operator's work; absent where ONNX Runtime chose, as `threads: 0` and WebAssembly have it. */
  readonly threads?: number;
  readonly cpu?: string;
}

export interface BlockReport {
  readonly index: number;
  /** Fraction of the block's prunable parameters removed. */
  readonly sparsity: number;
  /** How much the dense block changes its input: 1 minus the mean cosine; absent where it was not measured. */
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
  /** Units that remain, in the order in which the model holds them: ascending, but for neurons of models that came in blocks. */
  readonly keep: readonly number[];
  /** Neurons of each expert of a mixture; absent where they remain. */
  readonly neurons?: BeforeAfter;
  /** Loss of the module's output on the calibration tokens; absent where nothing was removed or no token read. */
  readonly error?: OutputError;
  /** Of the module's only group, or of each function group in `groups`; absent for repairs that solve nothing. */
  readonly numerics?: RepairNumerics;
  /** Neurons by function (FANG). */
  readonly groups?: readonly GroupReport[];
  /** Contexts that the function groups serve, by number; of a mixture, those whose tokens go to its experts. */
  readonly contexts?: readonly ContextReport[];
  readonly affinity?: AffinityReport;
  /** Of a mixture of experts whose tokens were told apart by context. */
  readonly routing?: RoutingReport;
  /** Tokens with the largest activations of the kept units, and of the removed ones; absent where no text was read or quoted. */
  readonly topTokens?: TopTokensReport;
  /** Predicted cost of removing more of the module, for allocations that compare modules by it. */
  readonly costCurve?: CostCurve;
}

/** Tokens that activate a module's units in the dense model, for kept and for removed units. */
export interface TopTokensReport {
  /** Fraction of the module's squared output, each unit by itself, that comes from kept units. */
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
  /** Cost of all steps up to there. */
  readonly cost: readonly number[];
}

/** Which experts of a mixture the tokens of each context go to, in the dense model. */
export interface RoutingReport {
  /** Tokens of a context that go to an expert: `tokens[context][expert]`; each token goes to several. `keep` tells which experts remain. */
  readonly tokens: readonly (readonly number[])[];
  /**
   * Normalised mutual information between the context of a token and an expert that it goes to, from 0 (contexts say nothing about
   * experts) to 1 (each tells the other): `2 I / (H(context) + H(expert))`.
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

/** A cluster of calibration tokens, as one FFN or mixture of the dense model sees them. */
export interface ContextReport {
  readonly tokenCount: number;
  /** Tokens that set it apart, most telling first; absent when texts are not quoted. */
  readonly tokens?: readonly ContextToken[];
  /** Tokens from its middle, in their text; absent when texts are not quoted. */
  readonly examples?: readonly ContextExample[];
}

/** A token that is more frequent in a context than elsewhere. */
export interface ContextToken {
  readonly text: string;
  /** Times it occurs in the context. */
  readonly count: number;
  /** Its frequency here over its frequency among all calibration tokens. */
  readonly lift: number;
}

/** A token with some characters around it. */
export interface ContextExample {
  readonly before: string;
  readonly token: string;
  readonly after: string;
}

/** Affinity in brief: neurons of each group, strongest first, in a few columns. */
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
