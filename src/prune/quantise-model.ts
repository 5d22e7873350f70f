import { freeBytes } from '../free-bytes.js';
import { createRandom, drawPermutation } from '../linalg/random.js';
import { copyModel, setWeight } from '../onnx/edit-weights.js';
import type { OnnxModel } from '../onnx/onnx-model.js';
import { type BlockCodes, emptyCodes, roundRowsToNearest } from '../quantisation/block-codes.js';
import type { QuantisedWeight } from '../quantisation/write-blocks.js';
import type { Batch } from '../runtime/block-runner.js';
import { checkpoint } from '../runtime/journal.js';
import type { PruneJob } from './job.js';
import { measureTokenWeights, type TokenWeights, tokenWeightBytes } from './measure-dense/measure-token-weights.js';
import { startContext } from './prune-context.js';
import { type GriddedWeight, putCodes, type QuantisedModel, readRowParts } from './quantised-model.js';
import { isHeldOut, type LearnedWeight, type Learning, roundSegments } from './round-segments.js';

/** The part of a job that rounding without tokens needs. */
type RoundingJob = Pick<PruneJob, 'model' | 'store' | 'options'>;

/**
 * Rounds every weight to the nearest level of its block; no token is read.
 * @param isSketch Writes zeros as codes, for their sizes, without reading weights.
 */
export async function roundModel(
  job: RoundingJob,
  planned: readonly GriddedWeight[],
  isSketch = false,
): Promise<QuantisedModel> {
  const model = copyModel(job.model);
  const weights: QuantisedWeight[] = [];
  for (const weight of planned) {
    job.options.signal?.throwIfAborted();
    const codes = isSketch
      ? emptyCodes(weight.grid, weight.outCount, weight.inCount)
      : await nearestCodes(model, weight);
    weights.push(await putCodes(model, weight, { codes, store: job.store }));
  }
  const nothing = { roundings: new Map(), costs: new Map(), heldOut: [], timings: [], remarks: [] };
  return { model, weights, ...nothing };
}

async function nearestCodes(model: OnnxModel, weight: GriddedWeight): Promise<BlockCodes> {
  const codes = emptyCodes(weight.grid, weight.outCount, weight.inCount);
  const known = await weight.readKnown?.();
  for await (const rows of readRowParts(model, weight)) {
    roundRowsToNearest(codes, rows, known);
    freeBytes(rows.values);
  }
  return codes;
}

/** Rounds the weights with calibrated rounding in a quantised model again, to the nearest levels. */
export async function roundAgain(
  job: RoundingJob,
  all: readonly GriddedWeight[],
  quantised: QuantisedModel,
): Promise<QuantisedModel> {
  const planned = all.filter(({ name }) => quantised.roundings.has(name));
  const again = await roundModel(job, planned);
  const model = copyModel(quantised.model);
  const replaced = new Set(planned.map(({ name }) => name));
  for (const name of replaced) setWeight(model, name, again.model.weights.get(name)!);
  return {
    ...quantised,
    model,
    weights: [...quantised.weights.filter(({ name }) => !replaced.has(name)), ...again.weights],
    roundings: new Map([...quantised.roundings].filter(([name]) => !replaced.has(name))),
  };
}

/**
 * Rounds the weights of the blocks and the LM head with little effect on the loss: block by block, on inputs of the partly quantised
 * model, each token weighted by the squared gradient of the divergence at the linear layer's output; in the LM head all weigh the
 * same. Other weights, and those of eight bits, are rounded to the nearest level. Of more than `MAX_TOKENS` tokens, some windows are drawn by the seed. With a
 * journal, an interrupted run resumes.
 */
export async function quantiseModel(
  given: PruneJob,
  planned: readonly GriddedWeight[],
  { tokenWeights: known }: QuantisingOptions = {},
): Promise<QuantisedModel> {
  const job = { ...given, windows: drawWindows(given) };
  const learned = planned.flatMap((weight) => learnedWeight(job, weight) ?? []);
  if (learned.length === 0 || job.windows.length === 0) return roundModel(job, planned);
  const rounded = await roundModel(
    job,
    planned.filter((weight) => learnedWeight(job, weight) === undefined),
  );
  const { tokenWeights, timings, remarks } = known ?? (await findTokenWeights(job, learned));
  const context = startContext(job);
  try {
    const found = await roundSegments(context, rounded.model, { learned, tokenWeights });
    return {
      model: rounded.model,
      weights: [...rounded.weights, ...found.weights],
      roundings: found.roundings,
      costs: costsOf(learned, { tokenWeights, roundings: found.roundings }),
      heldOut: context.batches.filter((batch) => isHeldOut(batch, context.batches)).flatMap(windowsOf),
      timings: [...timings, ...context.timings()],
      remarks: [...remarks, ...context.remarks],
    };
  } finally {
    await context.dispose();
  }
}

/** Options of calibrated rounding. */
export interface QuantisingOptions {
  /** Weights of the tokens of the same windows, if they were measured already. */
  readonly tokenWeights?: RoundingTokenWeights | undefined;
}

/** Weights of the tokens that rounding uses. */
export interface RoundingTokenWeights extends Pick<QuantisedModel, 'timings' | 'remarks'> {
  /** By the result of each linear layer's product; without an entry, all tokens have equal weights. */
  readonly tokenWeights: ReadonlyMap<string, TokenWeights>;
}

/** Weights of tokens for rounding the linear layers of several models with the same values. */
export function tokenWeightsForRounding(
  given: PruneJob,
  planned: readonly GriddedWeight[],
): Promise<RoundingTokenWeights> {
  const job = { ...given, windows: drawWindows(given) };
  return findTokenWeights(
    job,
    planned.flatMap((weight) => learnedWeight(job, weight) ?? []),
  );
}

/** Most tokens for calibrated rounding: four times as many did not improve it. */
const MAX_TOKENS = 2 ** 13;

/** Draws some of the windows at random, in their order. */
function drawWindows({ windows, options }: PruneJob): readonly Int32Array[] {
  const count = Math.max(MIN_WINDOWS, Math.floor(MAX_TOKENS / (windows[0]?.length ?? 1)));
  if (windows.length <= count) return windows;
  const drawn = drawPermutation(createRandom(options.seed), windows.length).subarray(0, count).sort();
  return Array.from(drawn, (at) => windows[at]!);
}

/** Enough for training and held-out batches. */
const MIN_WINDOWS = 6;

async function findTokenWeights(job: PruneJob, all: readonly LearnedWeight[]): Promise<RoundingTokenWeights> {
  const learned = all.filter(({ isHead }) => !isHead);
  if (learned.length === 0) return { tokenWeights: new Map(), timings: [], remarks: [] };
  const context = startContext(job);
  try {
    const { weights: tokenWeights, obstacle } = await checkpoint(job.journal, 'token-weights', {
      bytes: tokenWeightBytes,
      make: () => measureTokenWeights(context, learned.map(resultOf)),
    });
    const timings = context.timings().map(({ stage, ms }) => ({ stage: stage === 'advance' ? 'forward' : stage, ms }));
    const others = learned.filter((weight) => !tokenWeights.has(resultOf(weight).value)).length;
    const named = others === learned.length ? 'the linear layers' : `${others} of ${learned.length} linear layers`;
    const remarks =
      obstacle === undefined
        ? []
        : [`rounding weighted all tokens equally, since no gradient reaches ${named}: ${obstacle}`];
    return { tokenWeights, timings, remarks };
  } finally {
    await context.dispose();
  }
}

/** Cost of rounding each linear layer but the LM head. */
function costsOf(
  learned: readonly LearnedWeight[],
  { tokenWeights, roundings }: Pick<Learning, 'tokenWeights'> & Pick<QuantisedModel, 'roundings'>,
): ReadonlyMap<string, number> {
  const strengthOf = (weight: LearnedWeight) => tokenWeights.get(resultOf(weight).value)?.strength;
  // Linear layers without a gradient get the median of the others.
  const known = learned.flatMap((weight) => strengthOf(weight) ?? []).sort((a, b) => a - b);
  const median = known[Math.floor(known.length / 2)] ?? 1;
  return new Map(
    learned.flatMap((weight) => {
      if (weight.isHead) return [];
      // Gradient and error are assumed to be independent: of the error, 1 / outCount is in the gradient's direction.
      const cost = roundings.get(weight.name)!.chosen.cost / weight.outCount;
      return [[weight.name, (strengthOf(weight) ?? median) * cost] as const];
    }),
  );
}

function learnedWeight({ analysed: { detected } }: PruneJob, weight: GriddedWeight): LearnedWeight | undefined {
  const [product, ...others] = weight.products;
  if (weight.grid.bits > 4 || product === undefined || others.length > 0) return undefined;
  const segment = detected.partition.stageOf.get(product.result) ?? 0;
  const isHead = segment === detected.partition.cuts.length;
  if (!isHead && !detected.layout.segments.some(({ index }) => index === segment)) return undefined;
  return { ...weight, segment, isHead };
}

const resultOf = ({ products, outCount, segment }: LearnedWeight) => ({
  value: products[0]!.result,
  channelCount: outCount,
  segment,
});

const windowsOf = ({ tokens, batchSize, sequenceLength }: Batch): Int32Array[] =>
  Array.from({ length: batchSize }, (_, row) => tokens.slice(row * sequenceLength, (row + 1) * sequenceLength));
