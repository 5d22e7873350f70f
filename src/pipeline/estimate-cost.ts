import { blockSpans, type ModuleKind, type PrunableModule } from '../architecture/layout.js';
import { CACHE_STEPS } from '../evaluation/compare-logits.js';
import { WORK } from '../healing/differentiate.js';
import { sum } from '../linalg/sum.js';
import { CALIBRATION_DEFAULTS, generatedShare, type ResolvedCalibration } from '../options/calibration.js';
import { countHeldOut, type ResolvedHealing } from '../options/healing.js';
import { learnsRounding, type ResolvedQuantisation } from '../options/quantisation.js';
import { type ResolvedOptions, readsTokens } from '../options.js';
import { countBackwardTokens } from '../prune/measure-dense/choose-backward-batches.js';
import { type DensePassKinds, densePassKinds } from '../prune/measure-dense/measure-dense.js';
import type { MeasuredSpeed } from '../prune/measure-speed.js';
import { canRepair } from '../prune/repair-experts.js';
import { usesCoordinateDescent } from '../quantisation/coordinate-descent.js';
import { DTYPES, type Dtype, hasFewLevels } from '../quantisation/dtypes.js';
import type { AnalysedModel } from '../runtime/analyse-model.js';
import type { Engine } from '../runtime/engine.js';
import type { ModelFolder } from '../storage/model-folder.js';
import { HELD_OUT } from './held-out.js';
import type { ExpectedStep } from './overall-progress.js';
import { CERTIFIED_WINDOWS } from './stage-certify.js';

/** Model sizes that determine the time of stages. */
export interface ModelSize {
  readonly blockCount: number;
  readonly segmentCount: number;
  /** Parameters multiplied per token: in the blocks, in their FFNs, and in the LM head. */
  readonly blockParameters: number;
  readonly ffnParameters: number;
  readonly headParameters: number;
  readonly vocabularySize: number;
  /** Megabytes of all weights in float32. */
  readonly megabytes: number;
  /** By module: inputs and outputs of its output projection, and parameters that a token uses. */
  readonly modules: readonly {
    readonly kind: ModuleKind;
    readonly inputs: number;
    readonly outputs: number;
    readonly parameters: number;
    /** Of mixtures. */
    readonly experts?: ExpertSize | undefined;
  }[];
}

/** Sizes that determine the time of measuring and repairing experts. */
interface ExpertSize {
  readonly count: number;
  readonly perToken: number;
  /** Neurons of one expert; absent where experts cannot be repaired. */
  readonly width?: number | undefined;
}

/** Speed relative to the reference machine, in graphs and in JavaScript. */
export interface MachineSpeed {
  readonly graphs: number;
  readonly script: number;
}

export interface CostRequest {
  readonly options: ResolvedOptions;
  readonly quantisation: ResolvedQuantisation;
  readonly calibration: Pick<ResolvedCalibration, 'windowCount' | 'generate'>;
  readonly windowLength: number;
  readonly size: ModelSize;
  /** Number of results per measurement of the dense model. */
  readonly resultCount: number;
  /** Drafts per result. Default: those of the allocation. */
  readonly draftCount?: number | undefined;
  readonly evaluated: EvaluatedWork;
  readonly certifies: boolean;
  /** Number of windows that repairs read in a run from statistics. Absent: the model is measured. */
  readonly repairWindowCount?: number | undefined;
  readonly speed: MachineSpeed;
  /** Whether models are compared on held-out windows. */
  readonly measuresQuality: boolean;
  /** Whether the report has tokens with the largest activations. */
  readonly quotes: boolean;
}

/** Evaluation work per model. */
export interface EvaluatedWork {
  readonly modelCount: number;
  readonly tokenCount: number;
  /** Generated tokens. */
  readonly newTokens: number;
}

/** Time of a step, in graphs and in JavaScript. */
interface Cost {
  readonly graphs?: number;
  readonly script?: number;
}

/**
 * Milliseconds on a machine with two quiet cores of an AMD EPYC (docs/research/performance.md): SmolLM2-135M, checked
 * on tiny-llama. They are used only for progress and estimates.
 */
const MS = {
  /** A multiply-add of matrix products, in batches of tokens. */
  multiply: 7.4e-9,
  /** Factor of `multiply` for generation, with few rows per product. */
  generationFactor: 2.2,
  /** Sampling, per vocabulary entry. */
  sampledEntry: 5e-5,
  /** Fixed cost of generation graphs. */
  generationGraphs: 150,
  /** Losses of two models and their divergence in double precision, per vocabulary entry. */
  comparedEntry: 1.2e-5,
  /** A run of a session, and opening a block's session, which packs weights. */
  sessionRun: 0.3,
  openedSession: 8,
  packedMegabyte: 4,
  /** Opening an entire model: reading, checking and optimizing its graph, per block and per megabyte. */
  openedModel: 60,
  openedBlock: 50,
  openedMegabyte: 1.5,
  /** Reading all weights to generate one token. */
  readMegabyte: 0.09,
  step: 2,
  /** Comparing a written model with the dense one, per megabyte. */
  comparedMegabyte: 20,
  /** Analysing a graph, per block. */
  analysedBlock: 45,
  analysedMegabyte: 0.15,
  savedMegabyte: 1,
  /** Saving a triangle, by the square of its rows. */
  savedTriangle: 1.2e-5,
  /** Rounding a weight to the nearest level; fitting scales of weights that are rounded with error feedback. */
  nearestWeight: 1.5e-5,
  calibratedWeight: 3e-4,
  /** Per module: choosing and removing units; measuring; graphs of input repair. */
  module: 20,
  measuredModule: 25,
  repairedModule: 220,
  /** Fixed cost of training graphs. */
  trainingGraphs: 400,
  /** Combining and comparing outputs of experts, per output of a token's experts; repairing experts, per input or output. */
  mixedExpert: 7e-6,
  repairedExpert: 6e-5,
  /** Principal components and clusters of an FFN's tokens, per feature and per token. */
  contextFeature: 1.1,
  contextToken: 0.02,
  /** Tokenizing a text, and constructing a tokenizer per vocabulary entry. */
  text: 40,
  textToken: 4e-3,
};

/**
 * Factorisations of a module with N inputs: time of matrix products, in N³ multiplications of float32, and of copies and
 * JavaScript, in milliseconds per N². Products in float64 and of narrow matrices take more than twice as long.
 */
const FACTORISED = {
  /** To order units, and to score them once. */
  ordered: { products: 2, copies: 2.2e-4 },
  scored: { products: 1, copies: 6.5e-5 },
  /** To repair outputs, and inputs in three steps. */
  output: { products: 0.7, copies: 8e-5 },
  inputs: { products: 2, copies: 7e-5 },
} as const;
/** Products of error feedback and of coordinate descent, as multiples of a product with the linear layer; dampenings that are tried. */
const FEEDBACK = { products: 1.2, descent: 4, tries: 1.25 };

const TOKENS_PER_RUN = 1024;
/** Largest numbers of tokens: for input repair and its step lengths, and for calibrated rounding. */
const MAX_TOKENS = {
  drafts: 8192,
  examples: 16384,
  lengths: 4096,
  rounding: 8192,
  topActivations: 2048,
  experts: 8192,
};
/** Passes of tokens through a mixture's experts to order experts and neurons. */
const EXPERT_PASSES = { entire: 12, inside: 8 };
const NO_EXPERTS: ExpertSize = { count: 0, perToken: 0 };
/** Multiplications of a backward pass relative to a forward pass: recomputation, and two products per linear layer. */
const BACKWARDS = 3;
/** Passes of input repair over its examples: without steps, per step, and per step for its length. */
const REPAIR = { base: 1.5, step: 2.2, length: 1.25 };
const HELD_OUT_SCORES = 5;
/** Runs of a certificate, two of them by blocks. */
const CERTIFIED = { runs: 3, blockwise: 2 };
const COMPARED_MODELS = 4;

/** Sizes that decide the cost of a model's stages. */
export function modelSize(analysed: AnalysedModel): ModelSize {
  const { layout } = analysed.detected;
  const headParameters = layout.vocabularySize * layout.hiddenSize;
  const known = sum(layout.modules.map(parametersInUse));
  const idle = sum(layout.modules.map((module) => module.parameterCount - parametersInUse(module)));
  const rest = layout.parameterCount - headParameters - idle;
  return {
    blockCount: blockSpans(layout).length,
    segmentCount: layout.segments.length,
    // Weights outside blocks, such as an untied embedding, are in the rest too; mixers are in the rest only.
    blockParameters: known > rest / 2 ? known : Math.max(known, rest),
    ffnParameters: sum(layout.modules.map(({ kind, parameterCount }) => (kind === 'ffn' ? parameterCount : 0))),
    headParameters,
    vocabularySize: layout.vocabularySize,
    megabytes: (4 * layout.parameterCount) / 1e6,
    modules: layout.modules.map((module) => ({
      kind: module.kind,
      inputs: module.output.inputCount,
      outputs: module.output.outputCount,
      parameters: parametersInUse(module),
      experts: expertSize(analysed, module),
    })),
  };
}

function expertSize(analysed: AnalysedModel, module: PrunableModule): ExpertSize | undefined {
  const { kind, unitCount, expertsPerToken = unitCount, neurons } = module;
  if (kind !== 'experts') return undefined;
  const width = neurons && canRepair(analysed, module) ? neurons.unitCount * neurons.unitSize : undefined;
  return { count: unitCount, perToken: expertsPerToken, width };
}

/** Active parameters per token: a mixture uses only top-k experts. */
const parametersInUse = ({ parameterCount, unitCount, expertsPerToken = unitCount }: PrunableModule): number =>
  (parameterCount * expertsPerToken) / unitCount;

/** Reference speed, which other machines are compared with, see `measureSpeed`. */
const REFERENCE: MeasuredSpeed = { graphs: 1 / MS.multiply, script: 6e5 };

/** Assumed speed of a machine that is not measured: graphs scale with threads that have their own core. */
export function assumedSpeed({ threads = 0 }: Pick<Engine, 'threads'>, coreCount = REFERENCE_CORES): MachineSpeed {
  const parallel = threads > 0 ? Math.min(threads, coreCount) : coreCount;
  return { graphs: (parallel / REFERENCE_CORES) ** (parallel < REFERENCE_CORES ? 1 : 0.8), script: 1 };
}

const REFERENCE_CORES = 2;

/** Measured speed relative to the reference. */
export const machineSpeed = ({ graphs, script }: MeasuredSpeed): MachineSpeed => ({
  graphs: graphs / REFERENCE.graphs,
  script: script / REFERENCE.script,
});

/** Tokens of a calibration window. */
export async function expectedWindowLength(
  { windowLength }: Pick<ResolvedCalibration, 'windowLength'>,
  folder: ModelFolder,
): Promise<number> {
  const { windowLength: most } = CALIBRATION_DEFAULTS;
  return Math.min(windowLength ?? most, (await folder.longestWindow()) ?? Number.POSITIVE_INFINITY);
}

/** Expected steps of a pruning run in order, with their times. */
export function estimateCost(request: CostRequest): ExpectedStep[] {
  const { options, quantisation, calibration, resultCount, evaluated, certifies, quotes, speed } = request;
  const { measuresQuality, size, windowLength, repairWindowCount } = request;
  const readsStatistics = repairWindowCount !== undefined;
  const costs = stageCosts(size);
  const rounds = learnsRounding(quantisation);
  const usesTokens = (readsTokens(options) && !readsStatistics) || rounds;
  const tokenCount = usesTokens ? calibration.windowCount * windowLength : 0;
  const { heal, shots } = options;
  const healing = heal && { ...heal, windowLength };
  const writtenCount = tokenCount * generatedShare(calibration);
  const healedWriting = healing ? healedTokens(healing) * healing.share : 0;
  const measuring = readsStatistics
    ? []
    : measuringSteps({ size, costs, options, tokenCount, passes: densePassKinds(options) });
  const drafts =
    readsStatistics || tokenCount === 0
      ? 0
      : (request.draftCount ?? Object.keys(options.allocation.candidates ?? {}).length);
  const shrink: Step[] = [
    ...(drafts > 1 ? [{ stage: 'candidates', cost: costs.drafts(options, drafts, tokenCount) }] : []),
    { stage: 'prune', cost: costs.shrink(options, readsStatistics ? repairWindowCount * windowLength : tokenCount) },
  ];
  const healSteps: Step[] = healing ? [{ stage: 'heal', cost: costs.heal(healing) }] : [];
  const dtypes = quantisation.dtypes;
  const resultSteps: Step[] = [
    ...(shots > 1 ? Array.from({ length: shots }, () => [...measuring, ...shrink]).flat() : shrink),
    ...healSteps,
    ...(quotes && tokenCount > 0
      ? [{ stage: 'top-activations', cost: costs.forward(Math.min(MAX_TOKENS.topActivations, tokenCount)) }]
      : []),
    ...dtypes.flatMap((dtype) => [
      ...(rounds
        ? roundingSteps(costs, tokenCount, usesDescent(DTYPES[dtype]))
        : [{ stage: 'quantise', cost: costs.nearest() }]),
      ...(hasFewLevels(DTYPES[dtype]) ? healSteps : []),
    ]),
    ...Array.from({ length: Math.max(1, dtypes.length) }, (): Step[] => [
      { stage: 'save', cost: costs.save() },
      ...(certifies ? [{ stage: 'certify', cost: costs.certify() }] : []),
      ...(measuresQuality ? [{ stage: 'quality', cost: costs.quality() }] : []),
    ]).flat(),
  ];
  const evaluates = evaluated.tokenCount + evaluated.newTokens > 0;
  const steps: Step[] = [
    { stage: 'load', cost: costs.load() },
    { stage: 'analyse', cost: costs.analyse() },
    ...(usesTokens ? [{ stage: 'calibrate', cost: costs.text() }] : []),
    ...(writtenCount > 0 ? [{ stage: 'generate', cost: costs.generate(writtenCount) }] : []),
    ...(healing ? [{ stage: 'calibrate', cost: costs.text() }] : []),
    ...(healedWriting > 0
      ? [
          {
            stage: 'generate',
            cost: costs.generate(healedWriting),
            from: fractionGenerated(writtenCount, healedWriting),
          },
        ]
      : []),
    ...(shots > 1 ? [] : measuring),
    ...Array.from({ length: resultCount }, () => resultSteps).flat(),
    ...(evaluates
      ? Array.from({ length: evaluated.modelCount }, () => ({ stage: 'evaluate', cost: costs.evaluate(evaluated) }))
      : []),
  ];
  return steps.map((step) => expectedStep(step, speed));
}

function expectedStep({ stage, cost: { graphs = 0, script = 0 }, from = 0 }: Step, speed: MachineSpeed): ExpectedStep {
  return { stage, ms: (graphs / speed.graphs + script / speed.script) * (1 - from), ...(from > 0 && { from }) };
}

/** Cost of a run that heals a pruned model. */
export interface HealingCostRequest extends Pick<CostRequest, 'size' | 'windowLength' | 'certifies' | 'speed'> {
  readonly settings: ResolvedHealing;
}

/** Expected steps of healing, after both models are analysed. */
export function estimateHealing({
  settings,
  size,
  windowLength,
  certifies,
  speed,
}: HealingCostRequest): ExpectedStep[] {
  const costs = stageCosts(size);
  const healing = { ...settings, windowLength };
  const written = healedTokens(healing) * settings.share;
  const steps: Step[] = [
    { stage: 'calibrate', cost: costs.text() },
    ...(written > 0 ? [{ stage: 'generate', cost: costs.generate(written) }] : []),
    { stage: 'heal', cost: costs.heal(healing) },
    { stage: 'save', cost: costs.save() },
    ...(certifies ? [{ stage: 'certify', cost: costs.certify() }] : []),
    { stage: 'quality', cost: costs.quality() },
  ];
  return steps.map((step) => expectedStep(step, speed));
}

/** Cost of measuring a dense model, or a shard of its windows: each shard makes all windows. */
export interface ObservationCostRequest
  extends Pick<CostRequest, 'options' | 'calibration' | 'size' | 'windowLength' | 'speed'> {
  /** Shards that the windows are divided into; 1: all windows. */
  readonly shardCount: number;
}

/** Expected steps of `observe`, after the model is analysed. */
export function estimateObservation({
  options,
  calibration,
  size,
  windowLength,
  shardCount,
  speed,
}: ObservationCostRequest): ExpectedStep[] {
  const costs = stageCosts(size);
  const allTokens = calibration.windowCount * windowLength;
  const tokenCount = allTokens / shardCount;
  const share = generatedShare(calibration);
  const kinds = densePassKinds(options);
  const passes = { ...kinds, forwards: true, sums: false, allBackwards: kinds.backwards };
  const modules = selectedModules(size, options);
  const sums = options.adapter.needs === 'gram' ? costs.gram(modules, tokenCount) : 0;
  const forward = costs.forward(tokenCount);
  const steps: Step[] = [
    { stage: 'calibrate', cost: costs.text() },
    ...(share > 0 ? [{ stage: 'generate', cost: costs.generate(allTokens * share) }] : []),
    ...measuringSteps({ size, costs, options, tokenCount, passes }),
    { stage: 'observe', cost: { graphs: 2 * forward.graphs + sums, script: 2 * forward.script } },
    { stage: 'save', cost: { script: squares(modules) * MS.savedTriangle } },
  ];
  return steps.map((step) => expectedStep(step, speed));
}

/** A model with its measurements. */
export interface EvaluatedModel {
  readonly parameters: number;
  readonly measurements: readonly {
    readonly stage: string;
    readonly tokenCount: number;
    /** Number of models that read the tokens. */
    readonly modelCount: number;
  }[];
}

/** The steps of evaluating models. */
export function estimateEvaluation(models: readonly EvaluatedModel[]): ExpectedStep[] {
  return models.flatMap(({ parameters, measurements }) => [
    { stage: 'load', ms: ((4 * parameters) / 1e6) * MS.packedMegabyte },
    ...measurements.map(({ stage, tokenCount, modelCount }) => ({
      stage,
      ms: modelCount * tokenCount * (parameters * MS.multiply + MS.sessionRun / 16),
    })),
  ]);
}

interface Step {
  readonly stage: string;
  readonly cost: Cost;
  /** Fraction of it that is done before the run. */
  readonly from?: number;
}

/** Fraction of windows that is generated already: those of healing continue the calibration's. */
const fractionGenerated = (before: number, all: number): number => Math.min(1, before / all);

type Healing = ResolvedHealing & { readonly windowLength: number };

const healedTokens = (healing: Healing): number => (healing.windowCount + countHeldOut(healing)) * healing.windowLength;

interface MeasuringRequest extends Pick<CostRequest, 'size' | 'options'> {
  readonly costs: StageCosts;
  readonly tokenCount: number;
  readonly passes: DensePassKinds;
}

/** Steps of `measureDense`. */
function measuringSteps({ size, costs, options, tokenCount, passes }: MeasuringRequest): Step[] {
  const { forwards, backwards, sums, allBackwards } = passes;
  const modules = selectedModules(size, options);
  const backwardTokens = countBackwardTokens(tokenCount, {
    allBackwards,
    outputCounts: modules.map(({ outputs }) => outputs),
  });
  const { grouping } = options;
  const clustered = grouping ? modules.filter(({ kind }) => kind === 'ffn') : [];
  const contextsOf = ({ outputs }: (typeof modules)[number]) =>
    MS.contextFeature * outputs + MS.contextToken * Math.min(grouping!.fitCount, tokenCount);
  const gram = sums && options.adapter.needs === 'gram' ? costs.gram(modules, tokenCount) : 0;
  const ordering = sums ? factorisation('ordered', modules) : {};
  const mixtures = modules.filter(({ experts }) => experts !== undefined);
  const experts = sum(mixtures.map(({ parameters }) => parameters));
  // Top-k experts of each token, and their replacements.
  const mixed = sum(mixtures.map(({ outputs, experts: { perToken } = NO_EXPERTS }) => 2 * perToken * outputs));
  const expertTokens = Math.min(MAX_TOKENS.experts, tokenCount);
  const expertPasses = EXPERT_PASSES.entire + (options.allocation.takesUnevenSteps ? EXPERT_PASSES.inside : 0);
  const forward = costs.forward(tokenCount);
  const backward = costs.backward(backwardTokens);
  return [
    ...(forwards
      ? [
          {
            stage: 'measure',
            cost: addCosts(forward, backwards ? {} : ordering, {
              graphs: gram,
              script: MS.measuredModule * modules.length + sum(clustered.map(contextsOf)),
            }),
          },
        ]
      : []),
    ...(backwards ? [{ stage: 'gradients', cost: addCosts(backward, ordering) }] : []),
    ...(experts > 0
      ? [
          {
            stage: 'experts',
            cost: {
              graphs: forward.graphs + expertTokens * expertPasses * experts * MS.multiply,
              script: forward.script + expertTokens * EXPERT_PASSES.entire * mixed * MS.mixedExpert,
            },
          },
        ]
      : []),
  ];
}

const usesDescent = ({ linears }: Dtype): boolean => linears.kind === 'blocks' && usesCoordinateDescent(linears.bits);

/** Steps of quantisation with calibrated rounding. @param withDescent Whether coordinate descent improves the codes. */
function roundingSteps(costs: StageCosts, tokenCount: number, withDescent: boolean): Step[] {
  const tokens = Math.min(MAX_TOKENS.rounding, tokenCount);
  return [
    { stage: 'analyse-result', cost: costs.analyse() },
    { stage: 'measure', cost: costs.forward(tokens) },
    { stage: 'gradients', cost: costs.backward(tokens) },
    { stage: 'quantise', cost: costs.round(tokens, withDescent) },
    { stage: 'compare', cost: costs.compare() },
  ];
}

type StageCosts = ReturnType<typeof stageCosts>;

function stageCosts(size: ModelSize) {
  const { segmentCount, blockCount, blockParameters, ffnParameters, headParameters, megabytes, modules } = size;
  const blockMegabytes = (4 * blockParameters) / 1e6;
  const openBlocks = segmentCount * MS.openedSession + blockMegabytes * MS.packedMegabyte;
  const openModel = MS.openedModel + MS.openedBlock * blockCount + megabytes * MS.openedMegabyte;
  const runs = (tokens: number) => Math.max(1, tokens / TOKENS_PER_RUN) * MS.sessionRun;
  const forward = (tokens: number) => ({
    graphs: tokens * blockParameters * MS.multiply + runs(tokens) * segmentCount,
    // Weights are packed by a single thread.
    script: openBlocks,
  });
  const text = () => ({ script: MS.text + size.vocabularySize * MS.textToken });
  const gram = (of: ModelSize['modules'], tokens: number) =>
    tokens * sum(of.map(({ inputs }) => inputs ** 2)) * MS.multiply;
  const costs = {
    forward,
    gram,
    text,
    load: text,
    analyse: () => ({ script: blockCount * MS.analysedBlock + megabytes * MS.analysedMegabyte }),
    generate: (tokens: number) => ({
      graphs: tokens * (MS.generationFactor * (blockParameters + headParameters) * MS.multiply + MS.sessionRun / 8),
      script: MS.generationGraphs + openModel + tokens * size.vocabularySize * MS.sampledEntry,
    }),
    backward: (tokens: number) => ({
      graphs:
        BACKWARDS * tokens * (blockParameters + headParameters) * MS.multiply + runs(tokens) * BACKWARDS * blockCount,
      script: openBlocks,
    }),
    shrink(options: ResolvedOptions, tokens: number): Cost {
      const pruned = selectedModules(size, options);
      const isGram = options.adapter.needs === 'gram';
      const groups = pruned.flatMap((module) => groupsOf(module, options));
      const isOrdered = densePassKinds(options).sums;
      const always = addCosts(
        { script: pruned.length * MS.module },
        isGram && !isOrdered ? factorisation('scored', groups) : {},
        isGram ? factorisation('output', groups) : {},
      );
      if (tokens === 0) return always;
      const { inputSteps } = options;
      const repaired = inputSteps > 0 ? pruned.filter(({ kind }) => kind === 'ffn') : [];
      const passes =
        Math.min(tokens, MAX_TOKENS.examples) * (REPAIR.base + REPAIR.step * inputSteps) +
        Math.min(tokens, MAX_TOKENS.lengths) * REPAIR.length * inputSteps;
      return addCosts(
        always,
        {
          graphs:
            2 * forward(tokens).graphs -
            0.88 * tokens * blockParameters * MS.multiply +
            (isGram ? gram(groups, tokens) : 0) +
            (repaired.length > 0 ? passes * ffnParameters * MS.multiply : 0),
          script: 2 * openBlocks + repaired.length * MS.repairedModule,
        },
        factorisation('inputs', repaired),
        isGram ? repairOfExperts(pruned, tokens) : {},
      );
    },
    drafts(options: ResolvedOptions, count: number, tokens: number): Cost {
      const { graphs = 0, script = 0 } = costs.shrink(
        { ...options, inputSteps: 0 },
        Math.min(MAX_TOKENS.drafts, tokens),
      );
      const compared = Math.min(MAX_TOKENS.drafts / 2, tokens / 4);
      const reading = openModel + compared * (blockParameters + headParameters) * MS.multiply;
      return { graphs: count * (graphs + reading), script: count * script };
    },
    heal(healing: Healing): Cost {
      const { passCount, windowCount, windowLength } = healing;
      const scored = WORK.forward * blockParameters + WORK.loss * headParameters;
      const learned = scored + WORK.backward * blockParameters;
      const multiplications =
        2 * healedTokens(healing) * blockParameters +
        passCount * windowCount * windowLength * learned +
        HELD_OUT_SCORES * countHeldOut(healing) * windowLength * scored;
      return { graphs: multiplications * MS.multiply, script: MS.trainingGraphs + BACKWARDS * openBlocks };
    },
    round(tokens: number, withDescent: boolean): Cost {
      const linears = linearsOf(modules);
      const factors = factorisation('scored', linears);
      const products =
        (FEEDBACK.products + (withDescent ? FEEDBACK.descent : 0)) *
        sum(linears.map(({ rows, inputs }) => rows * inputs ** 2));
      return {
        graphs:
          forward(tokens).graphs +
          (squares(linears) * tokens + products) * MS.multiply +
          FEEDBACK.tries * factors.graphs,
        script: 4 * openBlocks + FEEDBACK.tries * factors.script + blockParameters * MS.calibratedWeight,
      };
    },
    compare: (): Cost => ({
      script: COMPARED_MODELS * openModel + megabytes * MS.comparedMegabyte + blockParameters * MS.nearestWeight,
    }),
    nearest: (): Cost => ({ script: (blockParameters + headParameters) * MS.nearestWeight }),
    save: (): Cost => ({ script: megabytes * MS.savedMegabyte }),
    certify(): Cost {
      const { windowCount, windowLength } = CERTIFIED_WINDOWS;
      const tokens = CERTIFIED.runs * windowCount * windowLength;
      return {
        graphs:
          tokens * (blockParameters + headParameters) * MS.multiply +
          windowCount * CACHE_STEPS * (megabytes * MS.readMegabyte + MS.step),
        script: CERTIFIED.blockwise * openBlocks + openModel,
      };
    },
    quality(): Cost {
      const tokens = HELD_OUT.windowCount * HELD_OUT.windowLength;
      const models = 2;
      return {
        graphs:
          models * tokens * (blockParameters + headParameters) * MS.multiply +
          tokens * size.vocabularySize * MS.comparedEntry,
        script: models * openModel,
      };
    },
    evaluate: ({ tokenCount, newTokens }: EvaluatedWork): Cost => ({
      graphs: tokenCount * (blockParameters + headParameters) * MS.multiply + newTokens * megabytes * MS.readMegabyte,
      script: openModel,
    }),
  };
  return costs;
}

/**
 * Cost of least squares on the second linear layer of each expert. Tokens run through the first layer twice and the
 * second once; three products compute Gram matrix, right-hand side and change.
 */
function repairOfExperts(modules: ModelSize['modules'], tokenCount: number): Cost {
  const expertTokens = Math.min(MAX_TOKENS.experts, tokenCount);
  const costs = modules.map(({ outputs, parameters, experts: { count, perToken, width = 0 } = NO_EXPERTS }) => {
    if (width === 0) return {};
    const pairs = expertTokens * perToken;
    const second = width * outputs;
    const first = parameters / perToken - second;
    // With fewer tokens than neurons the dual form is solved.
    const solved = Math.min(width, pairs / count);
    return {
      graphs:
        (pairs * (2 * first + 3 * second + width * solved) + count * FACTORISED.scored.products * solved ** 3) *
        MS.multiply,
      script: pairs * (width + outputs) * MS.repairedExpert + count * solved ** 2 * FACTORISED.scored.copies,
    };
  });
  return addCosts(...costs);
}

/** Function groups of a module are factorised one by one. */
function groupsOf<Module extends ModelSize['modules'][number]>(
  module: Module,
  { grouping }: ResolvedOptions,
): Module[] {
  const count = module.kind === 'ffn' ? (grouping?.contextCount ?? 1) : 1;
  return Array.from({ length: count }, () => ({ ...module, inputs: module.inputs / count }));
}

/** Linear layers of all modules: each output projection, and the input projections with the hidden size as inputs. */
function linearsOf(modules: ModelSize['modules']) {
  return modules.flatMap(({ inputs, outputs, parameters }) => {
    const into = Math.max(0, parameters - inputs * outputs) / outputs;
    // Query, key and value, or gate and up.
    const count = 2;
    return [
      { rows: outputs, inputs },
      ...Array.from({ length: count }, () => ({ rows: into / count, inputs: outputs })),
    ];
  });
}

const selectedModules = ({ modules }: ModelSize, options: ResolvedOptions) =>
  modules.filter(({ kind }) => options.modules.has(kind));

interface LinearSize {
  readonly inputs: number;
}

/** Products and copies of a factorisation of each linear layer. */
function factorisation(use: keyof typeof FACTORISED, linears: readonly LinearSize[]) {
  const { products, copies } = FACTORISED[use];
  const cubes = sum(linears.map(({ inputs }) => inputs ** 3));
  return { graphs: products * cubes * MS.multiply, script: copies * squares(linears) };
}

const addCosts = (...costs: readonly Cost[]): Required<Cost> => ({
  graphs: sum(costs.map(({ graphs = 0 }) => graphs)),
  script: sum(costs.map(({ script = 0 }) => script)),
});

const squares = (linears: readonly LinearSize[]): number => sum(linears.map(({ inputs }) => inputs ** 2));
