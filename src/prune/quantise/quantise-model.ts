import { createQuadraticForm, type QuadraticForm } from '../../activations/quadratic-form.js';
import { runMeters } from '../../activations/stage-meter.js';
import { createWeightedGramMeter, type WeightedGramMeter } from '../../activations/weighted-gram-meter.js';
import { transposeMatrix } from '../../linalg/matrix-block.js';
import { copyModel, setWeight } from '../../onnx/edit-weights.js';
import { readFloat32 } from '../../onnx/float-encoding.js';
import type { OnnxModel } from '../../onnx/onnx-model.js';
import { type BlockCodes, type BlockGrid, roundToNearest } from '../../quantisation/block-codes.js';
import type { QuantisableWeight } from '../../quantisation/find-weights.js';
import { dequantisedHandle, storeCodes } from '../../quantisation/store-codes.js';
import type { QuantisedWeight } from '../../quantisation/write-blocks.js';
import type { Batch, BlockRunner } from '../../runtime/block-runner.js';
import type { PruneJob, StageTiming } from '../job.js';
import { openKeptSegments, type SegmentWork } from '../kept-segments.js';
import { keepingTokenWeights } from '../measure-dense/kept-token-weights.js';
import { measureTokenWeights, type TokenWeights } from '../measure-dense/measure-token-weights.js';
import { type PruneContext, startContext } from '../prune-context.js';
import { type ChosenCodes, chooseCodes, type Rounding } from './choose-codes.js';
import { chooseWide, wideGrid } from './choose-wide.js';

/** A weight and the grid that it goes to. */
export interface GriddedWeight extends QuantisableWeight {
  readonly grid: BlockGrid;
}

/** How a map was rounded, and what rounding to the nearest levels would have cost. */
export interface RoundingOfMap {
  readonly chosen: Rounding;
  readonly nearest: Rounding;
}

/** A model whose weights stand on grids. */
export interface QuantisedModel {
  /** The model with the weights that their codes stand for, as floats. */
  readonly model: OnnxModel;
  readonly weights: readonly QuantisedWeight[];
  /** How each weight was rounded that was looked at, by its name. */
  readonly roundings: ReadonlyMap<string, RoundingOfMap>;
  /** Maps that cost most and kept eight bits. */
  readonly wideCount: number;
  /** Windows that no rounding was learned from. */
  readonly heldOut: readonly Int32Array[];
  readonly timings: readonly StageTiming[];
  readonly remarks: readonly string[];
}

/** One batch of so many is held out, to choose between ways of rounding; where there is but one batch, none is. */
const HELD_OUT_STRIDE = 6;

/** What rounding without tokens takes of a job. */
type RoundingJob = Pick<PruneJob, 'model' | 'store' | 'options'>;

/** Rounds every weight to the nearest level of its block; no token is looked at. */
export async function roundModel(job: RoundingJob, planned: readonly GriddedWeight[]): Promise<QuantisedModel> {
  const model = copyModel(job.model);
  const weights: QuantisedWeight[] = [];
  for (const weight of planned) {
    job.options.signal?.throwIfAborted();
    weights.push(
      await putCodes(model, weight, { codes: roundToNearest(await readRows(model, weight), weight), store: job.store }),
    );
  }
  return { model, weights, roundings: new Map(), wideCount: 0, heldOut: [], timings: [], remarks: [] };
}

/** Rounds those weights to the nearest levels whose rounding was learned; all others stay as they are in a quantised model. */
export const roundAgain = (
  job: RoundingJob,
  planned: readonly GriddedWeight[],
  quantised: QuantisedModel,
): Promise<QuantisedModel> =>
  replaceRounded(
    job,
    planned.filter(({ name }) => quantised.roundings.has(name)),
    quantised,
  );

/** Rounds some weights of a quantised model to the nearest levels of their grids, in place of what they are there. */
async function replaceRounded(
  job: RoundingJob,
  planned: readonly GriddedWeight[],
  quantised: QuantisedModel,
): Promise<QuantisedModel> {
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
 * Rounds the weights of the blocks so that the loss feels little of it: block by block, on inputs of the model as it is
 * quantised until there, each token weighed by the squared gradient of the divergence at the map's output. Weights outside the
 * blocks, and those of eight bits, are rounded to the nearest level. With a journal a run goes on where it was cut off.
 * @param wideShare See `chooseWide`.
 */
export async function quantiseModel(
  job: PruneJob,
  planned: readonly GriddedWeight[],
  wideShare = 0,
): Promise<QuantisedModel> {
  const learned = planned.flatMap((weight) => learnedWeight(job, weight) ?? []);
  if (learned.length === 0 || job.windows.length === 0) return roundModel(job, planned);
  const rounded = await roundModel(
    job,
    planned.filter((weight) => learnedWeight(job, weight) === undefined),
  );
  const context = startContext(job, { all: 4, before: 0 });
  try {
    const tokenWeights = await keepingTokenWeights(context, () => measureTokenWeights(context, learned.map(resultOf)));
    const found = await roundSegments(context, rounded.model, { learned, tokenWeights });
    const quantised: QuantisedModel = {
      wideCount: 0,
      model: rounded.model,
      weights: [...rounded.weights, ...found.weights],
      roundings: found.roundings,
      heldOut: context.batches.filter((batch) => isHeldOut(batch, context.batches)).flatMap(windowsOf),
      timings: context.timings(),
      remarks: context.remarks,
    };
    return wideShare === 0 ? quantised : await widen(job, quantised, { learned, tokenWeights, wideShare });
  } finally {
    await context.dispose();
  }
}

/** Gives eight bits to the maps whose rounding is felt most. */
async function widen(
  job: PruneJob,
  quantised: QuantisedModel,
  { learned, tokenWeights, wideShare }: Learning & { readonly wideShare: number },
): Promise<QuantisedModel> {
  const maps = learned.map((weight) => {
    const { strength = 0 } = tokenWeights.get(resultOf(weight).value) ?? {};
    // A gradient and an error that know nothing of each other meet in one of so many directions.
    return { weight, cost: (strength * quantised.roundings.get(weight.name)!.chosen.cost) / weight.outCount };
  });
  const names = chooseWide(maps, wideShare);
  const wide = learned
    .filter(({ name }) => names.has(name))
    .map((weight) => ({ ...weight, grid: wideGrid(weight.grid) }));
  return { ...(await replaceRounded(job, wide, quantised)), wideCount: wide.length };
}

/** A weight whose rounding is learned, and the segment that reads it. */
interface LearnedWeight extends GriddedWeight {
  readonly segment: number;
}

function learnedWeight({ analysed: { detected } }: PruneJob, weight: GriddedWeight): LearnedWeight | undefined {
  const [product, ...others] = weight.products;
  if (weight.grid.bits > 4 || product === undefined || others.length > 0) return undefined;
  const segment = detected.partition.stageOf.get(product.result) ?? 0;
  return detected.layout.segments.some(({ index }) => index === segment) ? { ...weight, segment } : undefined;
}

const resultOf = ({ products, outCount, segment }: LearnedWeight) => ({
  value: products[0]!.result,
  channelCount: outCount,
  segment,
});

interface Learning {
  readonly learned: readonly LearnedWeight[];
  readonly tokenWeights: ReadonlyMap<string, TokenWeights>;
}

/** Rounds segment by segment, in place of the model's weights. */
async function roundSegments(
  context: PruneContext,
  model: OnnxModel,
  { learned, tokenWeights }: Learning,
): Promise<Pick<QuantisedModel, 'weights' | 'roundings'>> {
  const { job } = context;
  const last = Math.max(...learned.map(({ segment }) => segment));
  const weights: QuantisedWeight[] = [];
  const roundings = new Map<string, RoundingOfMap>();
  const take = async (weight: LearnedWeight, { codes, ...rounding }: ChosenCodes) => {
    roundings.set(weight.name, rounding);
    weights.push(await putCodes(model, weight, { codes, store: job.store }));
  };
  const kept = await openKeptSegments(context);
  const runner = kept.start > last ? undefined : await context.startRunner(model);
  const form = await createQuadraticForm(job.engine);
  try {
    for await (const part of kept.added()) {
      const { name, ...chosen } = part as KeptCodes;
      await take(learned.find((weight) => weight.name === name)!, chosen);
    }
    await kept.restore(runner);
    const { segments } = job.analysed.detected.layout;
    for (const { index } of segments.filter((segment) => segment.index >= kept.start && segment.index <= last)) {
      await context.pass(runner!);
      const here = learned.filter(({ segment }) => segment === index);
      const grams = await measureGrams(context, runner!, here, tokenWeights);
      const found = await roundSegment(context, model, { weights: here, grams, form });
      for (const [at, weight] of here.entries()) await take(weight, found[at]!);
      if (here.length > 0) kept.add(index, keepCodes(here, found));
      await kept.settle(index + 1, index < last ? runner : undefined);
    }
    return { weights, roundings };
  } finally {
    await Promise.all([runner?.dispose(), form.release()]);
  }
}

/** Codes as the journal has them. */
interface KeptCodes extends ChosenCodes {
  /** Of the weight. */
  readonly name: string;
}

const keepCodes = (weights: readonly LearnedWeight[], found: readonly ChosenCodes[]): SegmentWork => ({
  byteLength: found.reduce((sum, { codes: { codes, scales } }) => sum + codes.byteLength + scales.byteLength, 0),
  parts: async () => weights.map(({ name }, at): KeptCodes => ({ name, ...found[at]! })),
});

interface SegmentRounding {
  readonly weights: readonly LearnedWeight[];
  readonly grams: readonly WeightedGramMeter[];
  readonly form: QuadraticForm;
}

async function roundSegment(
  context: PruneContext,
  model: OnnxModel,
  { weights, grams, form }: SegmentRounding,
): Promise<ChosenCodes[]> {
  const chosen: ChosenCodes[] = [];
  for (const [at, weight] of weights.entries()) {
    context.job.options.signal?.throwIfAborted();
    const seen = grams[at]!.finish();
    const problem = {
      ...weight,
      weight: await readRows(model, weight),
      learned: seen.learned,
      heldOut: context.batches.length > 1 ? seen.heldOut : seen.learned,
    };
    chosen.push(await context.timed('quantise', () => chooseCodes(problem, { form, multiply: context.multiply })));
  }
  return chosen;
}

/** Runs a segment once for the Gram matrices of its maps' inputs. */
async function measureGrams(
  context: PruneContext,
  runner: BlockRunner,
  weights: readonly GriddedWeight[],
  tokenWeights: ReadonlyMap<string, TokenWeights>,
): Promise<WeightedGramMeter[]> {
  const meters = weights.map(({ products: [product], inCount }, at) =>
    createWeightedGramMeter({
      at: `${at}`,
      value: product!.input,
      channelCount: inCount,
      weightsOf: ({ index }) => tokenWeights.get(product!.result)?.batches.get(index),
      isHeldOut: (batch) => isHeldOut(batch, context.batches),
    }),
  );
  if (meters.length > 0)
    await context.timed('measure', () => runMeters(runner, meters, () => context.tick(`segment ${runner.segment}`)));
  return meters;
}

function isHeldOut({ index }: Batch, batches: readonly Batch[]): boolean {
  const stride = Math.min(HELD_OUT_STRIDE, batches.length);
  return stride > 1 && index % stride === stride - 1;
}

const windowsOf = ({ tokens, batchSize, sequenceLength }: Batch): Int32Array[] =>
  Array.from({ length: batchSize }, (_, row) => tokens.slice(row * sequenceLength, (row + 1) * sequenceLength));

/** A weight as `[N, K]`, whatever its layout in the file. */
async function readRows(
  { weights }: OnnxModel,
  { name, inputAxis, inCount, outCount }: QuantisableWeight,
): Promise<Float32Array> {
  const values = await readFloat32(weights.get(name)!);
  return inputAxis === 1 ? values : transposeMatrix(values, inCount, outCount);
}

/** Keeps a weight's codes, and has the model compute with what they stand for. */
async function putCodes(
  model: OnnxModel,
  weight: GriddedWeight,
  { codes, store }: { readonly codes: BlockCodes } & Pick<PruneJob, 'store'>,
): Promise<QuantisedWeight> {
  const stored = await storeCodes(codes, store);
  setWeight(model, weight.name, dequantisedHandle(model.weights.get(weight.name)!, stored, weight.inputAxis));
  return { ...weight, stored };
}
