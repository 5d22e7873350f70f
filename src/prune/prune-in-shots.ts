import type { PrunableModule } from '../architecture/layout.js';
import { UnsupportedModelError } from '../errors.js';
import { changedWeights } from '../removal/apply-change.js';
import { analyseModel } from '../runtime/analyse-model.js';
import { fixedSparsity } from './allocate-modules.js';
import { joinTimings, type ModuleOutcome, type PruneJob, type PruneOutcome } from './job.js';
import { selectModules } from './select-modules.js';
import { splitHeldOut } from './split-held-out.js';

/**
 * Reaches the budget in several rounds: round i of n ends at i/n of the sparsity, counted in the dense model's parameters, and
 * measures the result of the rounds before it. No entire FFN is removed before the last round, so that blocks keep their numbers.
 *
 * @param pruneOnce Prunes a model in one round.
 * @returns Total changes of the dense model; errors and numerics of the last round that pruned a module.
 */
export async function pruneInShots(
  job: PruneJob,
  pruneOnce: (job: PruneJob) => Promise<PruneOutcome>,
): Promise<PruneOutcome> {
  const { shots } = job.options;
  const original = job.analysed.detected.layout.modules;
  let state: Shot = { model: job.model, analysed: job.analysed, outcomes: new Map(), changed: new Map() };
  const rounds: PruneOutcome[] = [];
  for (let shot = 1; shot <= shots; shot += 1) {
    const { model } = state;
    const analysed = shot === 1 ? job.analysed : await analyseModel(model, job.engine, job.options.signal);
    const options = roundOptions(job, { ...state, analysed }, shot);
    const journal = job.journal?.within(`shot-${shot}`);
    const round = await pruneOnce({ ...job, model, analysed, options, journal, healing: healingSource(job) });
    rounds.push(round);
    state = {
      model: round.model,
      analysed,
      outcomes: join(original, state.outcomes, round),
      changed: changedWeights(round.model, [...state.changed, ...round.changed]),
    };
  }
  const [first] = rounds;
  const { model, outcomes, changed } = state;
  return {
    model,
    changed,
    modules: original.flatMap(({ index }) => outcomes.get(index) ?? []),
    dense: first!.dense,
    candidates: rounds.at(-1)!.candidates,
    healing: rounds.at(-1)!.healing,
    timings: joinTimings(...rounds.map(({ timings }) => timings)),
    remarks: [...selectModules(job).oneKindRemarks, ...joinRemarks(rounds.map(({ remarks }) => remarks))],
  };
}

/** Result of the rounds so far. */
interface Shot extends Pick<PruneJob, 'model' | 'analysed'>, Pick<PruneOutcome, 'changed'> {
  /** By the index of the module, in the dense model's units. */
  readonly outcomes: ReadonlyMap<number, ModuleOutcome>;
}

/** Joins remarks: those of all rounds once, others with the number of their round. */
function joinRemarks(rounds: readonly (readonly string[])[]): string[] {
  const isOfAll = (remark: string): boolean => rounds.every((remarks) => remarks.includes(remark));
  return [
    ...(rounds[0] ?? []).filter(isOfAll),
    ...rounds.flatMap((remarks, at) =>
      remarks.filter((remark) => !isOfAll(remark)).map((remark) => `shot ${at + 1}: ${remark}`),
    ),
  ];
}

/** Options of one round, relative to the model that it prunes. */
function roundOptions({ options, analysed: dense }: PruneJob, { analysed }: Shot, shot: number): PruneJob['options'] {
  const { shots, sparsity, minimumWidth } = options;
  const isLast = shot === shots;
  const now = analysed.detected.layout.modules;
  const pairs = dense.detected.layout.modules.map((module, at) => ({ module, now: counterpart(module, now[at]) }));
  const chosen = pairs.filter(({ module }) => options.modules.has(module.kind));
  const sum = (pick: (pair: (typeof pairs)[number]) => number) => chosen.reduce((total, pair) => total + pick(pair), 0);
  const total = sum(({ module }) => module.parameterCount);
  const current = sum((pair) => pair.now.parameterCount);
  const toRemove = (sparsity * total * shot) / shots - (total - current);
  const blockSparsity = new Map<number, { ffn?: number; attention?: number }>();
  for (const pair of chosen) {
    const fixed = hasSingleHeads(pair) ? 0 : fixedSparsity(pair.module, options, dense.detected.layout.modules);
    if (fixed === undefined) continue;
    const remaining = (1 - (fixed * shot) / shots) * (pair.module.unitCount / pair.now.unitCount);
    const { block, kind } = pair.module;
    blockSparsity.set(block, { ...blockSparsity.get(block), [kind]: Math.max(0, 1 - remaining) });
  }
  const widthOf = new Map(pairs.map(({ module }) => [module.index, denseWidth(module)]));
  return {
    ...options,
    sparsity: Math.max(0, toRemove / current),
    blockSparsity,
    minimumWidth: minimumWidth === 0 && !isLast ? undefined : minimumWidth,
    heal: isLast ? options.heal : undefined,
    denseWidths: widthOf,
  };
}

/** Neurons of an FFN, or of each expert. */
const denseWidth = ({ unitCount, neurons }: PrunableModule): number =>
  neurons === undefined ? unitCount : neurons.unitCount * neurons.unitSize;

/** Windows of healing, with the model before all shots as the teacher. */
function healingSource({ healing, windows, model, analysed }: PruneJob): PruneJob['healing'] {
  return { ...(healing ?? splitHeldOut(windows)), teacher: healing?.teacher ?? { model, analysed } };
}

/** The current form of a module. */
function counterpart(module: PrunableModule, now: PrunableModule | undefined): PrunableModule {
  if (now?.block === module.block && now.kind === module.kind) return now;
  throw new UnsupportedModelError(
    `block ${module.block} ${module.kind} is no longer recognised after a round of pruning; prune in one shot`,
  );
}

/** Whether KV groups have one query head left, which cannot be removed while the groups remain. */
const hasSingleHeads = ({ module, now }: { readonly module: PrunableModule; readonly now: PrunableModule }): boolean =>
  module.groupOfUnit !== undefined && now.groupOfUnit === undefined;

/** Adds a round's outcomes to those before it, in the dense model's units. */
function join(
  original: readonly PrunableModule[],
  before: Shot['outcomes'],
  { modules }: PruneOutcome,
): Shot['outcomes'] {
  const joined = new Map(before);
  for (const outcome of modules) {
    const { index } = outcome.module;
    const known = before.get(index);
    const keep = known === undefined ? outcome.keep : outcome.keep.map((unit) => known.keep[unit]!);
    const neurons = joinNeurons(known, outcome);
    joined.set(index, { ...outcome, module: original[index]!, keep, ...(neurons && { neurons }) });
  }
  return joined;
}

/** Neurons that remain in the remaining experts, in the dense model's units. */
function joinNeurons(known: ModuleOutcome | undefined, { keep, neurons }: ModuleOutcome): Int32Array | undefined {
  if (known?.neurons === undefined) return neurons;
  const before = known.neurons;
  const width = before.length / known.keep.length;
  const rows = [...keep].map((expert) => before.subarray(expert * width, (expert + 1) * width));
  if (neurons === undefined) return Int32Array.from(rows.flatMap((row) => [...row]));
  const now = neurons.length / keep.length;
  return neurons.map((unit, at) => rows[Math.floor(at / now)]![unit]!);
}
