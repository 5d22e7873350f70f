import { collectStatistics } from './activations/collect-statistics.js';
import { allocateSparsity } from './allocation/allocate-sparsity.js';
import { allocateStandardised } from './allocation/allocate-standardised.js';
import { roundBudget } from './allocation/round-budget.js';
import type { PrunableModule } from './architecture/layout.js';
import { EMPTY_STATISTICS } from './compensation/adapter.js';
import { OptionError, UnsupportedModelError } from './errors.js';
import { createRandom } from './linalg/random.js';
import { copyModel } from './onnx/edit-weights.js';
import type { OnnxModel } from './onnx/onnx-model.js';
import { refuseNaN } from './onnx/refuse-nan.js';
import type { ResolvedOptions } from './options.js';
import { checkEvenHeads, evenCount, type StepCounts } from './removal/allocate-steps.js';
import { judgeModule, type ScoredModule } from './removal/judge-module.js';
import { roundSteps, shrinkSteps } from './removal/plan-removal.js';
import { removeUnits } from './removal/remove-units.js';
import { addLinearBias, readLinearWeight, type StoreTensor, writeLinearWeight } from './removal/repair-linear.js';
import { tidyModel } from './removal/tidy-model.js';
import type { AnalysedModel } from './runtime/analyse-model.js';
import { type BlockRunner, createBlockRunner, makeBatches } from './runtime/block-runner.js';
import type { Engine } from './runtime/engine.js';
import type { HiddenStates } from './runtime/hidden-states.js';

/** What a pruning run works on; where it comes from and goes to is the entry's business. */
export interface PruneJob {
  readonly model: OnnxModel;
  readonly analysed: AnalysedModel;
  readonly engine: Engine;
  /** Token windows of equal length; may be empty for methods that look at no token. */
  readonly windows: readonly Int32Array[];
  readonly options: ResolvedOptions;
  /** Keeps rewritten weights until the model is saved. */
  readonly store: StoreTensor;
  /** Makes the place where hidden states wait between blocks. */
  createStates(): HiddenStates;
}

/** One module after pruning. */
export interface ModuleOutcome {
  readonly module: PrunableModule;
  /** Units that stay, ascending. */
  readonly keep: Int32Array;
  /** What was added to the output map's result, if anything. */
  readonly bias?: Float64Array | undefined;
}

/** Wall time of one stage. */
export interface StageTiming {
  readonly stage: string;
  readonly ms: number;
}

/** The pruned model and what happened on the way. */
export interface PruneOutcome {
  readonly model: OnnxModel;
  readonly modules: readonly ModuleOutcome[];
  readonly timings: readonly StageTiming[];
  /** What a reader of the report should know: raised dampenings, units that could not be removed. */
  readonly remarks: readonly string[];
}

/** Tokens that run through a block together unless the options say otherwise. */
const TOKENS_PER_BATCH = 2048;

/**
 * Prunes a model: the one place that knows the order of the stages.
 *
 * Block by block, each measured on what the pruned blocks before it produce: run it for the statistics of its channels,
 * score its units, choose what leaves, narrow the graph, repair the output map, and move the hidden states on through
 * what is left. The model given stays as it is. Saving the result raises a NumericalError where a weight that no stage
 * read holds NaN.
 */
export async function pruneModel(given: PruneJob): Promise<PruneOutcome> {
  const job = { ...given, model: refuseNaN(given.model) };
  const { analysed, options } = job;
  const { layout } = analysed.detected;
  const selected = selectModules(job);
  const run = startRun(job, selected.length === 0 ? 0 : layout.segments.length);
  const counts = await allocateSteps(run, selected);
  const model = copyModel(job.model);
  const outcomes: ModuleOutcome[] = [];
  const shrinking = selected.filter(({ index }) => (counts.get(index) ?? 0) > 0);
  const lastSegment = Math.max(0, ...shrinking.map(({ segment }) => segment));
  const runner = job.options.adapter.needs === 'none' ? undefined : run.startRunner(model);
  try {
    if (runner !== undefined && shrinking.length > 0) await run.advance(runner, 'embedding');
    for (const segment of layout.segments.filter(({ index }) => index <= lastSegment)) {
      const targets = shrinking.filter((module) => module.segment === segment.index);
      const scored = await run.judge(model, runner, targets);
      for (const [at, module] of targets.entries()) {
        options.signal?.throwIfAborted();
        outcomes.push(
          await run.shrink(model, { module, scored: scored[at]!, stepCount: counts.get(module.index) ?? 0 }),
        );
      }
      if (runner !== undefined && segment.index < lastSegment)
        await run.advance(runner, segmentName(segment.index, layout.modules));
    }
  } finally {
    await runner?.dispose();
  }
  tidyModel(model);
  return { model, modules: outcomes, timings: run.timings(), remarks: run.remarks };
}

function selectModules({ analysed, options }: PruneJob): PrunableModule[] {
  const { modules, unrecognised, blockCount } = analysed.detected.layout;
  const selected = modules.filter(({ kind, unitCount }) => options.modules.has(kind) && unitCount > 1);
  const stray = [...options.skipBlocks, ...options.blockSparsity.keys()].find((block) => block >= blockCount);
  if (stray !== undefined)
    throw new OptionError(`block ${stray} does not exist; the model has blocks 0..${blockCount - 1}`);
  const missing = [...options.modules].filter((kind) => !modules.some((module) => module.kind === kind));
  const unknown = unrecognised.filter(({ kind }) => kind === 'unknown' || options.modules.has(kind));
  if (unknown.length > 0 || (missing.length > 0 && modules.length === 0)) {
    const [first] = unknown;
    const found = first
      ? `block ${first.block} ${first.kind}: ${first.node}: ${first.reason} (nearest: ${first.nearest})`
      : 'no module found';
    throw new UnsupportedModelError(
      `${unknown.length} modules that were asked for cannot be pruned; ${found}. Choose other modules, or see "describe" for all of them`,
    );
  }
  return selected;
}

/** Steps each selected module loses. */
async function allocateSteps(run: Run, modules: readonly PrunableModule[]): Promise<StepCounts> {
  const { options } = run.job;
  if (options.allocation === 'standardised') return allocateByThreshold(run, modules);
  const fixedOf = ({ block, kind }: PrunableModule): number | undefined => {
    const given = options.blockSparsity.get(block);
    const own = typeof given === 'number' ? given : given?.[kind];
    return own ?? (options.skipBlocks.has(block) ? 0 : undefined);
  };
  const sparsities = allocateSparsity({
    rule: options.allocation,
    sparsity: options.sparsity,
    entries: modules.map((module) => ({ parameterCount: module.parameterCount, fixed: fixedOf(module) })),
  });
  const counts = new Map(
    modules.map((module, at) => {
      const multiple = module.kind === 'ffn' ? options.widthMultiple : 1;
      return [module.index, roundSteps(shrinkSteps(module, options.headUnit).stepCount, sparsities[at] ?? 0, multiple)];
    }),
  );
  if (!options.perBlockKvHeads) checkEvenHeads(modules, counts);
  return counts;
}

/** FLAP's AL-AM: scores of the dense model, one threshold over all modules; attention evenly where runtimes need that. */
async function allocateByThreshold(run: Run, modules: readonly PrunableModule[]): Promise<StepCounts> {
  const { options } = run.job;
  const scores = await run.scoreDense(modules);
  const entries = modules.map((module, at) => {
    const steps = shrinkSteps(module, options.headUnit);
    return { module, scores: stepScores(module, scores[at]!, options), parametersPerUnit: steps.parametersPerStep };
  });
  const total = entries.reduce((sum, entry) => sum + entry.scores.length * entry.parametersPerUnit, 0);
  const counts = allocateStandardised(entries, options.sparsity);
  const even = options.perBlockKvHeads ? [] : entries.filter(({ module }) => module.kind === 'attention');
  const evenSteps = evenCount(even.map((entry) => counts[entries.indexOf(entry)] ?? 0));
  const spent = even.reduce((sum, entry) => sum + evenSteps * entry.parametersPerUnit, 0);
  const free = entries.filter((entry) => !even.includes(entry));
  const freeTotal = free.reduce((sum, entry) => sum + entry.scores.length * entry.parametersPerUnit, 0);
  const rest = freeTotal === 0 ? 0 : Math.min(Math.max((options.sparsity * total - spent) / freeTotal, 0), 0.99);
  const freeCounts = allocateStandardised(free, rest);
  const rounded = roundBudget(
    free.map((entry, at) => ({
      unitCount: entry.scores.length,
      requested: freeCounts[at] ?? 0,
      parametersPerUnit: entry.parametersPerUnit,
      widthMultiple: entry.module.kind === 'ffn' ? options.widthMultiple : 1,
    })),
  );
  return new Map([
    ...even.map(({ module }) => [module.index, evenSteps] as const),
    ...free.map(({ module }, at) => [module.index, rounded[at] ?? 0] as const),
  ]);
}

/** Scores by step: a neuron's, a head's, or those of the heads that leave together. */
function stepScores(module: PrunableModule, scores: Float64Array, { headUnit }: ResolvedOptions): Float64Array {
  const { groupOfUnit, groupCount } = module;
  if (groupOfUnit === undefined || groupCount === undefined) return scores;
  const { stepCount } = shrinkSteps(module, headUnit);
  const sums = new Float64Array(stepCount);
  const rank = new Int32Array(groupCount);
  scores.forEach((score, unit) => {
    const group = groupOfUnit[unit]!;
    const step = headUnit === 'group' ? group : rank[group]!++;
    sums[step]! += score;
  });
  return sums;
}

const segmentName = (segment: number, modules: readonly PrunableModule[]): string => {
  const found = modules.filter((module) => module.segment === segment);
  return found.length === 0
    ? `segment ${segment}`
    : `block ${found[0]!.block} ${found.map(({ kind }) => kind).join(' + ')}`;
};

/** The steps of one run, with its clock, its progress and its remarks. */
interface Run {
  readonly job: PruneJob;
  readonly remarks: string[];
  startRunner(model: OnnxModel): BlockRunner;
  advance(runner: BlockRunner, detail: string): Promise<void>;
  judge(model: OnnxModel, runner: BlockRunner | undefined, modules: readonly PrunableModule[]): Promise<ScoredModule[]>;
  shrink(
    model: OnnxModel,
    decision: { module: PrunableModule; scored: ScoredModule; stepCount: number },
  ): Promise<ModuleOutcome>;
  /** Scores of the dense model's units, by module. */
  scoreDense(modules: readonly PrunableModule[]): Promise<Float64Array[]>;
  timings(): StageTiming[];
}

function startRun(job: PruneJob, segmentCount: number): Run {
  const { analysed, engine, options, windows } = job;
  const { layout, partition } = analysed.detected;
  const random = createRandom(options.seed);
  const remarks: string[] = [];
  const clock = new Map<string, number>();
  const passes = options.adapter.needs === 'none' ? 0 : options.allocation === 'standardised' ? 4 : 2;
  const windowLength = windows[0]?.length ?? 1;
  const batches = makeBatches(windows, options.batchSize ?? Math.max(1, Math.round(TOKENS_PER_BATCH / windowLength)));
  const total = Math.max(1, passes * segmentCount * batches.length);
  let done = 0;
  const timed = async <T>(stage: string, action: () => Promise<T>): Promise<T> => {
    const start = performance.now();
    try {
      return await action();
    } finally {
      clock.set(stage, (clock.get(stage) ?? 0) + performance.now() - start);
    }
  };
  const tick = (detail: string) => {
    done = Math.min(done + 1, total);
    options.onProgress?.({ stage: 'prune', done, total, detail });
  };

  const run: Run = {
    job,
    remarks,
    startRunner(model) {
      return createBlockRunner({
        engine,
        model,
        cuts: partition.cuts,
        facts: analysed.facts,
        tokenInput: analysed.tokenInput,
        batches,
        states: job.createStates(),
        signal: options.signal,
      });
    },
    advance: (runner, detail) => timed('advance', () => runner.advance(() => tick(detail))),
    async judge(model, runner, modules) {
      const { adapter } = options;
      const [first] = modules;
      if (first === undefined) return [];
      const allUnits = modules.map(({ unitCount }) => Int32Array.from({ length: unitCount }, (_, unit) => unit));
      const detail = segmentName(first.segment, layout.modules);
      const { needs } = adapter;
      const statistics =
        needs === 'none' || runner === undefined
          ? modules.map(() => [EMPTY_STATISTICS])
          : await timed('measure', () =>
              collectStatistics(runner, {
                targets: modules.map(({ output }) => ({
                  linear: output,
                  needs,
                  groups: [Int32Array.from({ length: output.inputCount }, (_, channel) => channel)],
                })),
                onBatch: () => tick(detail),
              }),
            );
      const scored: ScoredModule[] = [];
      for (const [at, module] of modules.entries()) {
        const weight = await readLinearWeight(model, module.output);
        const groups = [{ units: allUnits[at]!, statistics: statistics[at]![0]! }];
        const judged = await timed('score', () =>
          judgeModule({ module, weight, groups, adapter, headUnit: options.headUnit, random }),
        );
        remarks.push(...judged.remarks.map((remark) => `block ${module.block} ${module.kind}: ${remark}`));
        scored.push(judged);
      }
      return scored;
    },
    async shrink(model, { module, scored, stepCount }) {
      const verdict = await timed('repair', () => scored.remove(stepCount));
      if (verdict.overflow > 0)
        remarks.push(`block ${module.block} ${module.kind}: ${verdict.overflow} units could not be removed`);
      removeUnits(model, {
        detected: analysed.detected,
        facts: analysed.facts,
        module: module.index,
        keep: verdict.keep,
      });
      if (verdict.weight) await writeLinearWeight(model, module.output, { values: verdict.weight, store: job.store });
      if (verdict.bias) await addLinearBias(model, module.output, verdict.bias);
      return { module, keep: verdict.keep, bias: verdict.bias };
    },
    async scoreDense(modules) {
      const scores: Float64Array[] = [];
      const runner = options.adapter.needs === 'none' ? undefined : run.startRunner(copyModel(job.model));
      try {
        if (runner !== undefined) await run.advance(runner, 'embedding');
        for (const segment of layout.segments) {
          const targets = modules.filter((module) => module.segment === segment.index);
          scores.push(...(await run.judge(job.model, runner, targets)).map((scored) => scored.scores));
          if (runner !== undefined && segment !== layout.segments.at(-1))
            await run.advance(runner, segmentName(segment.index, layout.modules));
        }
      } finally {
        await runner?.dispose();
      }
      return scores;
    },
    timings: () => [...clock].map(([stage, ms]) => ({ stage, ms })),
  };
  return run;
}
