import { createQuadraticForm } from '../../activations/quadratic-form.js';
import { runMeters } from '../../activations/stage-meter.js';
import { createWeightedGramMeter } from '../../activations/weighted-gram-meter.js';
import { copyModel, setWeight } from '../../onnx/edit-weights.js';
import { readFloat32 } from '../../onnx/float-encoding.js';
import type { OnnxModel } from '../../onnx/onnx-model.js';
import { type BlockCodes, type BlockGrid, roundToNearest } from '../../quantisation/block-codes.js';
import type { QuantisableWeight } from '../../quantisation/find-weights.js';
import { dequantisedHandle, storeCodes, transposed } from '../../quantisation/store-codes.js';
import type { QuantisedWeight } from '../../quantisation/write-blocks.js';
import type { Batch, BlockRunner } from '../../runtime/block-runner.js';
import type { PruneJob, StageTiming } from '../job.js';
import { type PruneContext, startContext } from '../prune-context.js';
import { chooseCodes, type Rounding } from './choose-codes.js';
import { measureTokenWeights, type TokenWeights } from './measure-token-weights.js';

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
  readonly timings: readonly StageTiming[];
  readonly remarks: readonly string[];
}

/** One batch of so many is held out, to choose between ways of rounding; where there is but one batch, none is. */
const HELD_OUT_STRIDE = 6;

/** Rounds every weight to the nearest level of its block; no token is looked at. */
export async function roundModel(
  job: Pick<PruneJob, 'model' | 'store' | 'options'>,
  planned: readonly GriddedWeight[],
): Promise<QuantisedModel> {
  const model = copyModel(job.model);
  const weights: QuantisedWeight[] = [];
  for (const weight of planned) {
    job.options.signal?.throwIfAborted();
    weights.push(
      await putCodes(model, weight, { codes: roundToNearest(await readRows(model, weight), weight), store: job.store }),
    );
  }
  return { model, weights, roundings: new Map(), timings: [], remarks: [] };
}

/**
 * Rounds the weights of the blocks so that the loss feels little of it: block by block, on inputs of the model as it is
 * quantised until there, each token weighed by the squared gradient of the divergence at the map's output. Weights outside the
 * blocks, and those of eight bits, are rounded to the nearest level.
 */
export async function quantiseModel(job: PruneJob, planned: readonly GriddedWeight[]): Promise<QuantisedModel> {
  const stageOf = (value: string): number => job.analysed.detected.partition.stageOf.get(value) ?? 0;
  const segments = job.analysed.detected.layout.segments.map(({ index }) => index);
  const isLearned = ({ grid, products }: GriddedWeight): boolean =>
    grid.bits === 4 && products.length === 1 && segments.includes(stageOf(products[0]!.result));
  const learned = planned
    .filter(isLearned)
    .map((weight) => ({ ...weight, segment: stageOf(weight.products[0]!.result) }));
  if (learned.length === 0 || job.windows.length === 0) return roundModel(job, planned);
  const rounded = await roundModel(
    job,
    planned.filter((weight) => !isLearned(weight)),
  );
  const context = startContext(job, { all: 4, before: 0 });
  const form = await createQuadraticForm(job.engine);
  try {
    const tokenWeights = await measureTokenWeights(
      context,
      learned.map(({ products, outCount, segment }) => ({
        value: products[0]!.result,
        channelCount: outCount,
        segment,
      })),
    );
    const { model } = rounded;
    const runner = await context.startRunner(model);
    const weights: QuantisedWeight[] = [...rounded.weights];
    const roundings = new Map<string, RoundingOfMap>();
    try {
      for (const segment of segments.filter((index) => index <= Math.max(...learned.map((weight) => weight.segment)))) {
        await context.pass(runner);
        const here = learned.filter((weight) => weight.segment === segment);
        const grams = await measureGrams(context, runner, here, tokenWeights);
        for (const [at, weight] of here.entries()) {
          job.options.signal?.throwIfAborted();
          const { learned: seen, heldOut } = grams[at]!.finish();
          const problem = {
            ...weight,
            weight: await readRows(model, weight),
            learned: seen,
            heldOut: context.batches.length > 1 ? heldOut : seen,
          };
          const { codes, chosen, nearest } = await context.timed('quantise', () =>
            chooseCodes(problem, { form, multiply: context.multiply }),
          );
          roundings.set(weight.name, { chosen, nearest });
          weights.push(await putCodes(model, weight, { codes, store: job.store }));
        }
      }
    } finally {
      await runner.dispose();
    }
    return { model, weights, roundings, timings: context.timings(), remarks: context.remarks };
  } finally {
    await Promise.all([form.release(), context.dispose()]);
  }
}

/** Runs a segment once for the Gram matrices of its maps' inputs. */
async function measureGrams(
  context: PruneContext,
  runner: BlockRunner,
  weights: readonly GriddedWeight[],
  tokenWeights: ReadonlyMap<string, TokenWeights>,
) {
  const meters = weights.map(({ products: [product], inCount }, at) =>
    createWeightedGramMeter({
      at: `${at}`,
      value: product!.input,
      channelCount: inCount,
      weightsOf: ({ index }) => tokenWeights.get(product!.result)?.get(index),
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

/** A weight as `[N, K]`, whatever its layout in the file. */
async function readRows(
  { weights }: OnnxModel,
  { name, inputAxis, inCount, outCount }: QuantisableWeight,
): Promise<Float32Array> {
  const values = await readFloat32(weights.get(name)!);
  return inputAxis === 1 ? values : transposed(values, inCount, outCount);
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
