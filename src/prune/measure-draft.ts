import type { Allocation } from '../allocation/allocation.js';
import { global } from '../allocation/global.js';
import type { PrunableModule } from '../architecture/layout.js';
import type { Dtype } from '../quantisation/dtypes.js';
import type { StoreTensor } from '../removal/repair-linear.js';
import type { UnderstoodModel } from '../runtime/analyse-model.js';
import { measuresOf, type StepCounts } from './allocate-modules.js';
import { type DraftWindows, draftJob, pruneDraft } from './drafts.js';
import type { MeasuredModel } from './measure-dense/measure-dense.js';
import { measureDivergences } from './measure-divergences.js';
import type { Mixture } from './mixtures.js';
import { type BlockSettings, planWeights } from './plan-weights.js';
import { quantiseModel, type RoundingTokenWeights, roundModel, tokenWeightsForRounding } from './quantise-model.js';
import type { GriddedWeight, QuantisedModel } from './quantised-model.js';

/** Settings for writing weights in few bits. */
export interface CodedForm extends Omit<BlockSettings, 'grids'> {
  /** Of linear layers that the mixture does not list. */
  readonly dtype: Dtype;
  readonly rounding: 'calibrated' | 'nearest';
}

/** Inputs of drafts and of their comparison. */
export interface DraftRun extends DraftWindows {
  readonly measured: MeasuredModel;
  /** Absent: weights remain floats. */
  readonly form: CodedForm | undefined;
  /** Calls an action with a store for the weights of one draft, which is freed afterwards. */
  withStore<T>(action: (store: StoreTensor) => Promise<T>): Promise<T>;
}

/** Loss of a draft's predictions: parts of the mean KL(dense || draft), in nats per token. */
export interface DraftCost {
  readonly pruning: number;
  /** Cost that rounding adds. */
  readonly quantising: number;
}

export interface MeasuredDraft extends DraftCost {
  /** Estimated cost of rounding each linear layer with calibrated rounding. */
  readonly roundingCosts: ReadonlyMap<string, number>;
}

/** Measures drafts one after the other, with token weights that are measured once. */
export function createDraftMeter(run: DraftRun) {
  let weighing: Promise<RoundingTokenWeights> | undefined;
  const weigh = () => {
    weighing ??= weighDense(run);
    return weighing;
  };
  return (mixture: Pick<Mixture, 'grids' | 'steps'>, onProgress?: (fraction: number) => void) =>
    run.withStore((store) => measureDraft(run, { mixture, store, weigh, onProgress }));
}

function weighDense({ measured: { job }, drafted, form }: DraftRun): Promise<RoundingTokenWeights> {
  const { blockSize } = form!;
  const fewest = new Map(planAll(job, form!).map(({ name }) => [name, { bits: 4 as const, blockSize }]));
  return tokenWeightsForRounding({ ...job, windows: drafted, journal: undefined }, planAll(job, form!, fewest));
}

/** Weights of a model that are quantised in blocks. */
function planAll({ model, analysed }: UnderstoodModel, form: CodedForm, grids?: Mixture['grids']): GriddedWeight[] {
  return planWeights(model, analysed, form.dtype, { ...form, grids }).flatMap(({ grid, ...weight }) =>
    grid === undefined ? [] : [{ ...weight, grid }],
  );
}

interface DraftRequest {
  readonly mixture: Pick<Mixture, 'grids' | 'steps'>;
  readonly store: StoreTensor;
  readonly weigh: () => Promise<RoundingTokenWeights>;
  readonly onProgress: ((fraction: number) => void) | undefined;
}

async function measureDraft(
  { measured, drafted, compared, form }: DraftRun,
  { mixture, store, weigh, onProgress }: DraftRequest,
): Promise<MeasuredDraft> {
  const { job: given, modules } = measured;
  const { engine, analysed, model } = given;
  const job = draftJob(
    { ...given, store },
    {
      allocation: allocationOf(modules, { ...measured, options: given.options }, mixture.steps),
      windows: drafted,
      onProgress: (fraction) => onProgress?.(fraction),
    },
  );
  const { signal } = job.options;
  const isPruned = mixture.steps.size > 0;
  const pruned = isPruned ? await pruneDraft(job, measured, mixture.steps) : { model, analysed };
  const quantised = form && (await roundDraft({ ...job, ...pruned }, form, { mixture, weigh }));
  const models = [...(isPruned ? [pruned.model] : []), ...(quantised ? [quantised.model] : [])];
  const found = await measureDivergences(
    { model, analysed },
    models.map((draft) => ({ model: draft, analysed: pruned.analysed })),
    { engine, signal, windows: compared },
  );
  const pruning = isPruned ? found[0]! : 0;
  return { pruning, quantising: quantised ? found.at(-1)! - pruning : 0, roundingCosts: quantised?.costs ?? new Map() };
}

async function roundDraft(
  job: MeasuredModel['job'],
  form: CodedForm,
  { mixture, weigh }: Pick<DraftRequest, 'mixture' | 'weigh'>,
): Promise<QuantisedModel> {
  const planned = planAll(job, form, mixture.grids);
  const learns = form.rounding === 'calibrated' && job.windows.length > 0 && planned.some(({ grid }) => grid.bits <= 4);
  return learns ? quantiseModel(job, planned, { tokenWeights: await weigh() }) : roundModel(job, planned);
}

/** An allocation that removes given numbers of steps from each module. */
export function allocationOf(
  modules: readonly PrunableModule[],
  { options, dense }: Pick<MeasuredModel, 'dense'> & Pick<MeasuredModel['job'], 'options'>,
  steps: StepCounts,
): Allocation {
  const { candidates: _, ...threshold }: Allocation = global;
  const stepsOf = (module: PrunableModule) => measuresOf(module, options, { dense, modules }).stepCount;
  return {
    ...threshold,
    takesUnevenSteps: options.allocation.takesUnevenSteps ?? false,
    allocate: () => modules.map((module) => (steps.get(module.index) ?? 0) / stepsOf(module)),
  };
}
