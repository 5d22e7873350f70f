import { refusal } from '../options/option.js';
import type { Journal } from '../runtime/journal.js';
import { readCheckpoint } from '../runtime/journal.js';
import { type CostModel, distributeCost, fitCostModel } from './cost-model.js';
import type { DraftCost, MeasuredDraft } from './measure-draft.js';
import {
  type Bits,
  costInBlocks,
  formsIn,
  largestBytes,
  type Mixture,
  type MixtureCost,
  mixturesAt,
  plainForms,
  type SizedForm,
  type SizedWeight,
  type SizeProblem,
  smallestMixture,
  uniformMixture,
} from './mixtures.js';

/** A measured mixture that may meet a size. */
export interface SizeCandidate {
  /** `plain`: one grid, all units. `bits`: several. `pruned`: one number of bits, fewer units. `mixture`: both. */
  readonly kind: 'plain' | 'bits' | 'pruned' | 'mixture';
  readonly mixture: Mixture;
  /** Bytes of its files. */
  readonly bytes: number;
  /** Cost that the cost model predicted before it was measured; absent for the first candidates. */
  readonly predicted?: number | undefined;
  readonly cost: DraftCost;
}

/** Inputs of a search for the best model of a size. */
export interface SizeSearch {
  /** Parts of the model, without rounding costs. */
  readonly problem: SizeProblem;
  /** Allowed numbers of bits, the most first; empty: weights keep their form. */
  readonly bits: readonly Bits[];
  /** Bytes of the files that a mixture takes. */
  bytesOf(mixture: Pick<Mixture, 'grids' | 'steps'>): Promise<number>;
  measure(mixture: Mixture, onProgress: (fraction: number) => void): Promise<MeasuredDraft>;
  readonly journal: Journal | undefined;
  /** Called with the number of finished drafts and the total. */
  onDraft(done: number, total: number): void;
}

/** Choice for a size, and the candidates. */
export interface ChosenSize {
  readonly chosen: SizeCandidate;
  /** Those that fit, and the unpruned models in each number of bits. */
  readonly candidates: readonly SizeCandidate[];
}

/** Most mixtures of bits and units that are measured for one size. */
const MAX_ROUNDS = 3;

/** Fraction of the best divergence by which a mixture must be predicted to be better to be measured. */
const MARGIN = 0.02;

/** Most attempts at fitting the exact size. */
const MAX_FITS = 8;

/** Fraction of the size that may remain unused. */
const SIZE_TOLERANCE = 0.003;

/** Fraction of the size by which the limit is lowered when the mixture does not change. */
const LIMIT_STEP = 0.01;

const CHECKPOINT = 'size-drafts';

/**
 * Searches the best model of each size. First the dense model is measured in each number of bits, which gives the rounding cost of
 * every linear layer. For each size, the best mixtures of bits only, of units only and of both are measured on held-out windows;
 * measured costs correct the estimates, by which the next mixture is chosen, until none is predicted to be better. The mixture of
 * the lowest divergence from the dense model is chosen.
 */
export async function createSizeSearch(search: SizeSearch) {
  const drafts = await openDrafts(search);
  const plain: SizeCandidate[] = [];
  const withCosts = await estimatePlainCosts(search, drafts, plain);
  let sizeCount = 0;
  return {
    /** The problem with rounding costs. */
    problem: withCosts,
    async choose(targetBytes: number): Promise<ChosenSize> {
      if (sizeCount > 0) drafts.startNextSize();
      sizeCount += 1;
      // Without candidates of other sizes: a resumed run skips finished sizes, and must choose the same.
      const measured = [...plain];
      const found = await chooseFor({ ...search, problem: withCosts, drafts, measured }, targetBytes);
      const candidates = [...plain, ...found.filter((candidate) => !plain.includes(candidate))];
      const fitting = candidates.filter(({ bytes }) => bytes <= targetBytes);
      const chosen = fitting.reduce((a, b) => (totalOf(b.cost) < totalOf(a.cost) ? b : a));
      return { chosen, candidates };
    },
  };
}

/** Requested sizes. */
export interface RequestedSizes {
  /** The option that names them. */
  readonly option: string;
  /** In bytes. */
  readonly targets: readonly number[];
  /** A size for messages. */
  readonly describe: (bytes: number) => string;
}

/** The smallest possible size, and the parts that take it. */
export interface SmallestSize {
  readonly bytes: number;
  readonly binds: readonly { readonly name: string; readonly bytes: number }[];
}

/** Finds the smallest size that the reductions can reach. */
export async function findSmallest({
  problem,
  bytesOf,
}: Pick<SizeSearch, 'problem' | 'bytesOf'>): Promise<SmallestSize> {
  const bytesLeft = ({ forms }: SizedWeight) => forms.at(-1)!.bytes;
  const tables = problem.weights.filter(({ isTable }) => isTable);
  const others = problem.weights.filter(({ isTable, module }) => !isTable && module === undefined);
  const otherBytes = others.reduce((sum, weight) => sum + bytesLeft(weight), 0);
  const bytes = await bytesOf(smallestMixture(problem));
  const named = [
    ...tables.map((weight) => ({ name: weight.name, bytes: bytesLeft(weight) })),
    ...(others.length > 0 ? [{ name: `${others.length} other matrices whose shape stays`, bytes: otherBytes }] : []),
  ];
  const isCached = problem.modules.some(({ kind, otherBytes: cached }) => kind === 'attention' && cached > 0);
  const rest = {
    name: isCached ? 'the KV cache and all else that stays' : 'all else that stays',
    bytes: Math.max(
      0,
      named.reduce((left, part) => left - part.bytes, bytes),
    ),
  };
  return { bytes, binds: [...named, rest] };
}

/** Refuses sizes below the smallest. @throws OptionError with the smallest size and its parts. */
export function checkSmallest({ bytes, binds }: SmallestSize, { option, targets, describe }: RequestedSizes): void {
  const tooSmall = targets.find((target) => target < bytes);
  if (tooSmall === undefined) return;
  const parts = binds.map((part) => `${part.name} ${describe(part.bytes)}`).join(', ');
  throw refusal(
    option,
    `is ${describe(tooSmall)}, and the smallest that the allowed reductions reach is ${describe(bytes)}: ${parts}. Give a larger size, or allow more reductions or dtypes of fewer bits`,
  );
}

export const totalOf = ({ pruning, quantising }: DraftCost): number => pruning + quantising;

interface OpenedSearch extends SizeSearch {
  readonly drafts: Drafts;
  /** All measured candidates of this size, including the unpruned ones. */
  readonly measured: SizeCandidate[];
}

async function chooseFor(search: OpenedSearch, targetBytes: number): Promise<readonly SizeCandidate[]> {
  const { problem, bits, measured, drafts } = search;
  const found = measured.filter(({ bytes }) => bytes <= targetBytes);
  // The unpruned model with the most bits fits.
  const [most] = bits;
  if (most !== undefined && findSame(found, uniformMixture(problem, most))) return found;
  const costModel = fitCostModel(measured);
  const predict = (estimate: MixtureCost) => totalOf(costModel.predict(estimate));
  const strategies = fitStrategies(problem, bits, costModel);
  const add = async (kind: SizeCandidate['kind'], fitted: FittedMixture, predicted?: number) => {
    const known = findSame(measured, fitted.mixture);
    const candidate = known ?? {
      kind,
      ...fitted,
      predicted,
      cost: await drafts.measure(fitted.mixture),
    };
    if (known === undefined) measured.push(candidate);
    if (!found.includes(candidate)) found.push(candidate);
  };
  const singles: { readonly kind: FitStrategy['kind']; readonly fitted: FittedMixture }[] = [];
  for (const { kind, make } of strategies) {
    const fitted = await fitExactly(search, make, targetBytes);
    if (fitted !== undefined) singles.push({ kind, fitted });
  }
  // Of models with fewer units only the one with the lowest predicted divergence is measured.
  const pruned = singles
    .filter(({ kind }) => kind === 'pruned')
    .sort((a, b) => predict(a.fitted.mixture.estimate) - predict(b.fitted.mixture.estimate));
  for (const { kind, fitted } of [...singles.filter(({ kind }) => kind !== 'pruned'), ...pruned.slice(0, 1)])
    await add(kind, fitted, predict(fitted.mixture.estimate));
  if (found.length === 0) {
    const fitted = await fitCoarsely(search, (limit) => bestMixture(problem, limit, costModel), targetBytes);
    const [pruned, unpruned] = bits.length > 0 ? (['mixture', 'bits'] as const) : (['pruned', 'plain'] as const);
    await add(fitted.mixture.steps.size > 0 ? pruned : unpruned, fitted);
  }
  if (bits.length === 0) return found;
  for (let round = 0; round < MAX_ROUNDS; round += 1) {
    const corrected = fitCostModel(measured);
    const fitted = await fitExactly(search, (limit) => bestMixture(problem, limit, corrected), targetBytes);
    if (fitted === undefined || findSame(found, fitted.mixture)) break;
    const best = Math.min(...found.map(({ cost }) => totalOf(cost)));
    const predicted = totalOf(corrected.predict(fitted.mixture.estimate));
    if (predicted > best * (1 - MARGIN)) break;
    await add(fitted.mixture.steps.size === 0 ? 'bits' : 'mixture', fitted, predicted);
  }
  return found;
}

/**
 * Strategies to fit a size: fewer bits and larger blocks only, and fewer units in each number of bits, with tables in the most bits or also in
 * fewer.
 */
export function fitStrategies(
  problem: SizeProblem,
  bits: readonly Bits[],
  costModel = fitCostModel([]),
): readonly FitStrategy[] {
  const single = bits.flatMap((only) => {
    const [most, fewest] = [withBits(problem, only), withBits(problem, only, { fewInTables: true })];
    return largestBytes(fewest) < largestBytes(most) ? [most, fewest] : [most];
  });
  return [
    {
      kind: bits.length > 0 ? 'bits' : 'plain',
      make: (limit) => bestMixture({ ...problem, modules: [] }, limit, costModel),
    },
    ...(single.length === 0 ? [problem] : single).map(
      (one): FitStrategy => ({
        kind: 'pruned',
        make: (limit) => bestMixture(one, limit, costModel, ({ steps }) => steps.size > 0),
      }),
    ),
  ];
}

/** A strategy to fit a size. `make` returns a mixture of at most that many estimated bytes, or undefined if it cannot. */
export interface FitStrategy {
  readonly kind: 'plain' | 'bits' | 'pruned';
  readonly make: (limit: number) => Mixture | undefined;
}

/** The mixture of lowest predicted cost, of those ordered by estimates and those ordered by the slopes at the best of these. */
export function bestMixture(
  problem: SizeProblem,
  limit: number,
  { predict, slopesAt }: CostModel,
  isAllowed: (mixture: Mixture) => boolean = () => true,
): Mixture | undefined {
  const predicted = ({ estimate }: Mixture) => totalOf(predict(estimate));
  const bestOf = (mixtures: Mixture[]) =>
    mixtures.length === 0 ? undefined : mixtures.reduce((a, b) => (predicted(b) < predicted(a) ? b : a));
  const first = bestOf(mixturesAt(problem, limit).filter(isAllowed));
  if (first === undefined) return undefined;
  const slopes = slopesAt(first.estimate);
  return slopes.size === 0 ? first : bestOf([first, ...mixturesAt(problem, limit, slopes).filter(isAllowed)]);
}

export interface FittedMixture {
  readonly mixture: Mixture;
  readonly bytes: number;
}

/** Fits a size in the bytes of files, which differ from the estimate by graphs and padding. */
export async function fitExactly(
  { bytesOf }: Pick<SizeSearch, 'bytesOf'>,
  make: (limit: number) => Mixture | undefined,
  targetBytes: number,
): Promise<FittedMixture | undefined> {
  let best: FittedMixture | undefined;
  let limit = targetBytes;
  const tried = new Map<string, number>();
  for (let attempt = 0; attempt < MAX_FITS; attempt += 1) {
    const mixture = make(limit);
    if (mixture === undefined) break;
    const key = keyOf(mixture);
    const isNew = !tried.has(key);
    if (!isNew && best !== undefined) break;
    const bytes = isNew ? await bytesOf(mixture) : (tried.get(key) ?? 0);
    tried.set(key, bytes);
    const unused = targetBytes - bytes;
    if (unused >= 0 && bytes > (best?.bytes ?? 0)) best = { mixture, bytes };
    if (unused >= 0 && unused < targetBytes * SIZE_TOLERANCE) break;
    // Units and linear layers are indivisible, so that a slightly lower limit may change nothing.
    limit += isNew ? unused : Math.min(unused, -targetBytes * LIMIT_STEP);
  }
  return best;
}

/** Fractions of the bytes between a size and the smallest possible one, by which the limit is lowered. */
const COARSE_STEPS = [0, 1 / 64, 1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2];

/**
 * Fits a size that `fitExactly` misses, since a single step of units may remove far more bytes than are to be saved. The smallest
 * mixture is the last resort.
 */
async function fitCoarsely(
  { problem, bytesOf }: Pick<SizeSearch, 'problem' | 'bytesOf'>,
  make: (limit: number) => Mixture | undefined,
  targetBytes: number,
): Promise<FittedMixture> {
  const smallest = smallestMixture(problem);
  const leastBytes = await bytesOf(smallest);
  for (const fraction of COARSE_STEPS) {
    // The estimate of the dense model may exceed its bytes by a rounding error.
    const mixture = make(targetBytes + 0.5 - fraction * (targetBytes - leastBytes));
    const bytes = mixture && (await bytesOf(mixture));
    if (bytes !== undefined && bytes <= targetBytes) return { mixture: mixture!, bytes };
  }
  return { mixture: smallest, bytes: leastBytes };
}

const findSame = (candidates: readonly SizeCandidate[], mixture: Mixture): SizeCandidate | undefined =>
  candidates.find((candidate) => keyOf(candidate.mixture) === keyOf(mixture));

/**
 * The problem with one number of bits for all weights, or the fewest more bits that a weight can have.
 * @param fewInTables Whether this includes tables. Default: they keep the most bits.
 */
export function withBits(problem: SizeProblem, only: Bits, { fewInTables = false } = {}): SizeProblem {
  const own = fewInTables ? formsIn : plainForms;
  return { ...problem, weights: problem.weights.map((weight) => ({ ...weight, forms: own(weight, only) })) };
}

/** Measures the dense model in each number of bits, and sets the rounding costs of its weights. */
async function estimatePlainCosts(
  { problem, bits, bytesOf }: SizeSearch,
  drafts: Drafts,
  plain: SizeCandidate[],
): Promise<SizeProblem> {
  const costs = new Map<Bits, ReadonlyMap<string, number>>();
  const found: { only: Bits; mixture: Mixture; bytes: number; cost: MeasuredDraft }[] = [];
  for (const only of bits) {
    const mixture = uniformMixture(problem, only);
    const cost = await drafts.measure(mixture);
    found.push({ only, mixture, bytes: await bytesOf(mixture), cost });
  }
  // Without calibrated rounding, linear layers share the cost as with fewer bits, or by their bytes.
  const shares = [...found]
    .reverse()
    .reduce<ReadonlyMap<string, number>>(
      (known, { cost }) => (cost.roundingCosts.size > 0 ? cost.roundingCosts : known),
      new Map(problem.weights.map(({ name, forms }) => [name, forms[0]!.bytes])),
    );
  for (const { only, mixture, cost } of found) {
    const own = cost.roundingCosts.size > 0 ? cost.roundingCosts : shares;
    const named = problem.weights.filter(({ name, isTable }) => !isTable && mixture.grids.get(name)?.bits === only);
    const estimates = new Map(named.map(({ name }) => [name, own.get(name) ?? 0]));
    costs.set(only, distributeCost(cost.quantising, estimates));
  }
  // The cost of a table is measured with everything else in the most bits.
  const tables = new Map<string, MeasuredDraft>();
  const [first] = found;
  for (const { name, isTable, forms } of problem.weights) {
    if (!isTable || !hasSeveralBits(forms) || first === undefined) continue;
    tables.set(name, await drafts.measure(uniformMixture(problem, first.only, name)));
  }
  const costOf = (weight: SizedWeight, form: SizedForm): number => {
    const bits = form.grid?.bits;
    if (bits === undefined) return form.cost;
    if (!weight.isTable) return costInBlocks(costs.get(bits)?.get(weight.name) ?? 0, form, weight);
    const own = (tables.get(weight.name)?.quantising ?? 0) - (first?.cost.quantising ?? 0);
    return bits < weight.forms[0]!.grid!.bits ? costInBlocks(Math.max(0, own), form, weight) : 0;
  };
  const withCosts = {
    ...problem,
    weights: problem.weights.map((weight) => ({
      ...weight,
      forms: weight.forms.map((form) => ({ ...form, cost: costOf(weight, form) })),
    })),
  };
  for (const [name, cost] of tables) {
    const mixture = uniformMixture(withCosts, first!.only, name);
    plain.push({ kind: 'bits', mixture, bytes: await bytesOf(mixture), cost });
  }
  for (const { only, bytes, cost } of found)
    plain.push({ kind: 'plain', mixture: uniformMixture(withCosts, only), bytes, cost });
  return withCosts;
}

const hasSeveralBits = (forms: SizedWeight['forms']): boolean => forms[0]!.grid?.bits !== forms.at(-1)!.grid?.bits;

/** Measures drafts, or reads them from a checkpoint. */
interface Drafts {
  /** Counts the drafts of the next size from 0: those of the first size come after the dense model's. */
  startNextSize(): void;
  measure(mixture: Mixture): Promise<MeasuredDraft>;
}

interface DraftCheckpoint extends DraftCost {
  readonly key: string;
  readonly roundingCosts: readonly (readonly [string, number])[];
}

async function openDrafts({ journal, bits, problem, measure, onDraft }: SizeSearch): Promise<Drafts> {
  const finished: DraftCheckpoint[] = [...((await readCheckpoint<DraftCheckpoint[]>(journal, CHECKPOINT)) ?? [])];
  const tables =
    bits.length === 0 ? [] : problem.weights.filter(({ isTable, forms }) => isTable && hasSeveralBits(forms));
  const strategyCount = problem.modules.length > 0 ? 2 : 1;
  const perSize = bits.length > 0 ? strategyCount + MAX_ROUNDS : strategyCount;
  let total = bits.length + tables.length + perSize;
  let [done, reported] = [0, 0];
  // A draft has several stages, and progress restarts in each.
  const report = (value: number) => {
    reported = Math.max(reported, Math.min(value, total - 0.01));
    onDraft(reported, total);
  };
  return {
    startNextSize() {
      [done, reported, total] = [0, 0, perSize];
    },
    async measure(mixture) {
      const key = keyOf(mixture);
      report(Math.min(done, total - 1));
      const known = finished.find((draft) => draft.key === key);
      if (known === undefined) {
        const { roundingCosts, ...cost } = await measure(mixture, (fraction) =>
          report(done + Math.min(fraction, 0.99)),
        );
        finished.push({ ...cost, key, roundingCosts: [...roundingCosts] });
        await journal?.write(CHECKPOINT, [finished]);
      }
      done += 1;
      const { roundingCosts, pruning, quantising } = finished.find((draft) => draft.key === key)!;
      return { pruning, quantising, roundingCosts: new Map(roundingCosts) };
    },
  };
}

/** A key that is equal for equal mixtures. */
export const keyOf = ({ grids, steps }: Pick<Mixture, 'grids' | 'steps'>): string =>
  JSON.stringify([[...grids].sort(([a], [b]) => (a < b ? -1 : 1)), [...steps].sort(([a], [b]) => a - b)]);
