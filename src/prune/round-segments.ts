import type { NodeProto } from 'onnx-buf';
import { createQuadraticForm, type QuadraticForm } from '../activations/quadratic-form.js';
import { runMeters } from '../activations/stage-meter.js';
import { createWeightedGramMeter, type WeightedGramMeter } from '../activations/weighted-gram-meter.js';
import { freeBytes } from '../free-bytes.js';
import { inputsOf } from '../onnx/graph-index.js';
import type { OnnxModel } from '../onnx/onnx-model.js';
import { readCodes } from '../quantisation/store-codes.js';
import type { QuantisedWeight } from '../quantisation/write-blocks.js';
import type { Batch, BlockRunner } from '../runtime/block-runner.js';
import { cacheValues } from './cache-values.js';
import { type ChosenCodes, chooseCodes, chooseCodesInParts, DAMPENINGS } from './choose-codes.js';
import type { TokenWeights } from './measure-dense/measure-token-weights.js';
import type { PruneContext } from './prune-context.js';
import {
  type GriddedWeight,
  type LinearRounding,
  putCodes,
  type QuantisedModel,
  readRowParts,
  readRows,
} from './quantised-model.js';
import { openSegmentCheckpoint, type SegmentWork } from './segment-checkpoint.js';

/** A weight whose rounding is learned, and the segment that reads it. */
export interface LearnedWeight extends GriddedWeight {
  readonly segment: number;
  /** Whether it is the LM head, which may be the embedding too. */
  readonly isHead: boolean;
}

/** Inputs of calibrated rounding. */
export interface Learning {
  readonly learned: readonly LearnedWeight[];
  /** By the result of each weight's product; without an entry, all tokens have equal weights. */
  readonly tokenWeights: ReadonlyMap<string, TokenWeights>;
}

/** One batch of this many is held out, to choose between ways of rounding; none if there is only one batch. */
const HELD_OUT_STRIDE = 6;

export function isHeldOut({ index }: Batch, batches: readonly Batch[]): boolean {
  const stride = Math.min(HELD_OUT_STRIDE, batches.length);
  return stride > 1 && index % stride === stride - 1;
}

/**
 * Rounds the model's weights in place, segment by segment. Within a segment, weights are rounded in the order of dependence, so
 * that each linear layer is calibrated on the results of rounded ones.
 */
export async function roundSegments(
  context: PruneContext,
  model: OnnxModel,
  { learned, tokenWeights }: Learning,
): Promise<Pick<QuantisedModel, 'weights' | 'roundings'>> {
  const { job } = context;
  const levels = orderByDepth(learned, model);
  const groups = groupByPlace(levels);
  const last = Math.max(...levels.keys());
  const weights: QuantisedWeight[] = [];
  const roundings = new Map<string, LinearRounding>();
  const storeCodes = async (weight: LearnedWeight, { codes, ...rounding }: ChosenCodes): Promise<RoundedWeight> => {
    roundings.set(weight.name, rounding);
    const quantised = await putCodes(model, weight, { codes, store: job.store });
    weights.push(quantised);
    return { ...quantised, rounding };
  };
  const checkpoint = await openSegmentCheckpoint(context);
  const runner = checkpoint.start > last ? undefined : await context.startRunner(model, { isFixed: true });
  const form = await createQuadraticForm(job.engine);
  // Each segment runs up to its first weights, and once for every level.
  const depth = 1 + Math.max(...[...levels.values()].map(({ length }) => length));
  context.begin('quantise', last + 1, depth * context.batches.length);
  try {
    for await (const part of checkpoint.added()) {
      const { name, ...chosen } = part as SavedCodes;
      await storeCodes(learned.find((weight) => weight.name === name)!, chosen);
    }
    await checkpoint.restore(runner);
    const { layout, partition } = job.analysed.detected;
    const segments = [...layout.segments.map(({ index }) => index), partition.cuts.length];
    for (const index of segments.filter((segment) => segment >= checkpoint.start && segment <= last)) {
      context.startPart(index);
      await context.pass(runner!);
      const work: RoundedWeight[] = [];
      for (const [depth, here] of (levels.get(index) ?? []).entries()) {
        // Before the first level there is little to compute.
        if (depth > 0) cacheInputs(context, runner!, here);
        const grams = await measureGrams(context, runner!, here, tokenWeights);
        const dampeningsOf = (weight: LearnedWeight) => dampeningsFor(weight, groups, roundings);
        const found = await roundWeights(context, model, { weights: here, grams, form, dampeningsOf });
        for (const [at, weight] of here.entries()) work.push(await storeCodes(weight, found[at]!));
      }
      if (work.length > 0) checkpoint.add(index, packCodes(work));
      await checkpoint.saveIfNeeded(index + 1, index < last ? runner : undefined);
    }
    context.finish();
    return { weights, roundings };
  } finally {
    await Promise.all([runner?.dispose(), form.release()]);
  }
}

interface RoundedWeight extends QuantisedWeight {
  readonly rounding: LinearRounding;
}

/** Codes in the journal. */
interface SavedCodes extends ChosenCodes {
  /** Name of the weight. */
  readonly name: string;
}

/** Codes for the journal, which are read back from their store when they are written. */
const packCodes = (rounded: readonly RoundedWeight[]): SegmentWork => ({
  byteLength: rounded.reduce(
    (sum, { stored: { outCount, inCount, scales } }) => sum + outCount * inCount + scales.byteLength,
    0,
  ),
  parts: () =>
    Promise.all(
      rounded.map(
        async ({ name, stored, rounding }): Promise<SavedCodes> => ({
          name,
          codes: await readCodes(stored),
          ...rounding,
        }),
      ),
    ),
});

/** Weights by segment, and by their depth: the most weights between the segment's input and theirs. */
type Levels = ReadonlyMap<number, readonly (readonly LearnedWeight[])[]>;

function orderByDepth(weights: readonly LearnedWeight[], { proto }: OnnxModel): Levels {
  const segments = [...new Set(weights.map(({ segment }) => segment))].sort((a, b) => a - b);
  return new Map(
    segments.map((index) => {
      const here = weights.filter(({ segment }) => segment === index);
      return [index, orderWithin(here, proto.graph!.node)];
    }),
  );
}

function orderWithin(weights: readonly LearnedWeight[], nodes: readonly NodeProto[]): LearnedWeight[][] {
  const results = new Set(weights.map(({ products: [product] }) => product!.result));
  const depths = new Map<string, number>();
  for (const node of nodes) {
    const depth = Math.max(0, ...inputsOf(node).map((value) => depths.get(value) ?? 0));
    for (const value of node.output) depths.set(value, results.has(value) ? depth + 1 : depth);
  }
  const levels: LearnedWeight[][] = [];
  for (const weight of weights) {
    const depth = depths.get(weight.products[0]!.input) ?? 0;
    levels[depth] = [...(levels[depth] ?? []), weight];
  }
  return levels;
}

/** Groups weights of one shape at one place of their segments. @returns Each weight's group by name, in the order of segments. */
function groupByPlace(levels: Levels): ReadonlyMap<string, readonly LearnedWeight[]> {
  const byPlace = new Map<string, LearnedWeight[]>();
  const groupOf = new Map<string, readonly LearnedWeight[]>();
  for (const segment of levels.values()) {
    for (const [depth, here] of segment.entries()) {
      for (const [at, weight] of here.entries()) {
        const key = [depth, at, weight.outCount, weight.inCount].join();
        const group = byPlace.get(key) ?? [];
        byPlace.set(key, group);
        group.push(weight);
        groupOf.set(weight.name, group);
      }
    }
  }
  return groupOf;
}

/**
 * Dampening of a table that is LM head and embedding: more than of other weights, since feedback among the inputs of the LM head makes
 * the errors of looked-up rows larger. Of 0.03, 0.1, 0.3 and 1 the best for SmolLM2-135M and the bundled model together.
 */
const TIED_DAMPENINGS: readonly number[] = [0.3];

/** All dampenings are tried for one of this many weights of a group; the next ones use the best of those. */
const TRIAL_STRIDE = 4;

function dampeningsFor(
  weight: LearnedWeight,
  groups: ReadonlyMap<string, readonly LearnedWeight[]>,
  roundings: ReadonlyMap<string, LinearRounding>,
): readonly number[] {
  if (weight.lookups.length > 0) return TIED_DAMPENINGS;
  const group = groups.get(weight.name)!;
  const at = group.indexOf(weight);
  const tried = group[at - (at % TRIAL_STRIDE)]!;
  const dampening = tried === weight ? undefined : roundings.get(tried.name)?.chosen.dampening;
  return dampening === undefined ? DAMPENINGS : [dampening];
}

/** Caches the inputs of linear layers, so that the nodes before them run once. */
function cacheInputs(context: PruneContext, runner: BlockRunner, weights: readonly LearnedWeight[]): void {
  const inputs = new Map(weights.map(({ products: [product], inCount }) => [product!.input, inCount]));
  cacheValues(
    context,
    runner,
    [...inputs].map(([value, channelCount]) => ({ value, channelCount })),
  );
}

interface WeightsRounding {
  readonly weights: readonly LearnedWeight[];
  readonly grams: readonly WeightedGramMeter[];
  readonly form: QuadraticForm;
  /** Dampenings to try for a linear layer: see `chooseCodes`. */
  dampeningsOf(weight: LearnedWeight): readonly number[];
}

async function roundWeights(
  context: PruneContext,
  model: OnnxModel,
  { weights, grams, form, dampeningsOf }: WeightsRounding,
): Promise<ChosenCodes[]> {
  const chosen: ChosenCodes[] = [];
  for (const [at, weight] of weights.entries()) {
    context.job.options.signal?.throwIfAborted();
    const problem = { ...weight, known: await weight.readKnown?.(), ...grams[at]!.finish() };
    const tools = { form, multiply: context.multiply };
    const choose = async (): Promise<ChosenCodes> => {
      if (weight.isHead) return chooseCodesInParts(readRowParts(model, weight), problem, tools, dampeningsOf(weight));
      const whole = { ...problem, weight: await readRows(model, weight) };
      const codes = await chooseCodes(whole, tools, dampeningsOf(weight));
      freeBytes(whole.weight);
      return codes;
    };
    chosen.push(await context.timed('quantise', choose));
    freeBytes(problem.learned, problem.heldOut);
  }
  return chosen;
}

/** Runs a segment for the Gram matrices of some of its linear layers' inputs. */
async function measureGrams(
  context: PruneContext,
  runner: BlockRunner,
  weights: readonly GriddedWeight[],
  tokenWeights: Learning['tokenWeights'],
): Promise<WeightedGramMeter[]> {
  const meters = weights.map(({ products: [product], inCount }, at) =>
    createWeightedGramMeter({
      at: `${at}`,
      value: product!.input,
      channelCount: inCount,
      weightsOf: ({ index, tokens }) => {
        const own = tokenWeights.get(product!.result);
        return own === undefined ? new Float32Array(tokens.length).fill(1) : own.batches.get(index);
      },
      isHeldOut: (batch) => isHeldOut(batch, context.batches),
    }),
  );
  await context.timed('measure', () => runMeters(runner, meters, () => context.tick(`segment ${runner.segment}`)));
  return meters;
}
