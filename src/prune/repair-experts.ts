import type { RoutedToken } from '../activations/expert-router.js';
import type { OutputError } from '../activations/measure-output-error.js';
import type { PrunableModule } from '../architecture/layout.js';
import { UnsupportedModelError } from '../errors.js';
import { EXPERT_SCORES } from '../importance/expert-scores.js';
import { transposeMatrix } from '../linalg/matrix-block.js';
import { solveRidge } from '../linalg/solve-ridge.js';
import { setWeight } from '../onnx/edit-weights.js';
import { encodeFloats, readFloat32 } from '../onnx/float-encoding.js';
import type { OnnxModel, TensorHandle } from '../onnx/onnx-model.js';
import type { ModuleCut } from '../removal/apply-change.js';
import type { AnalysedModel } from '../runtime/analyse-model.js';
import type { BlockRunner } from '../runtime/block-runner.js';
import { weighTokens } from './measure-dense/all-experts.js';
import { openExperts, openNeurons } from './measure-dense/measure-experts.js';
import { findRouter } from './measure-dense/order-experts.js';
import { inParts, routeAll, runExperts } from './measure-dense/order-neurons.js';
import { sampleRouting } from './measure-dense/sample-routing.js';
import { type PruneContext, segmentName } from './prune-context.js';

/** Changes of the second linear layers of a mixture's experts. */
export interface ExpertRepair {
  /** `[channels, kept neurons]` row-major, added to an expert's linear layer, by index among the remaining experts. */
  readonly linears: ReadonlyMap<number, Float64Array>;
  readonly error?: OutputError | undefined;
}

/** One of this many tokens is held out, to check a repair; the others are for training. */
const HELD_OUT = 4;

/** Dampening of the least squares if the method has none. */
const DAMPENING = 0.1;

/** Whether the second linear layers of a mixture's experts can be repaired: not if they are packed, or other nodes read them too. */
export function canRepair({ detected }: Pick<AnalysedModel, 'detected'>, { index, neurons }: PrunableModule): boolean {
  const { nodes, neurons: inner } = detected.traces[index]!;
  if (inner === undefined || neurons === undefined || inner.second.bits !== undefined) return false;
  const own = new Set([...nodes, ...inner.nodes]);
  return !detected.index.consumersOf.get(inner.second.weight)?.some((at) => !own.has(at));
}

/** Runs of each expert's tokens through it in a repair; each is a tick of the progress. */
export const RUNS_PER_EXPERT = 2;

/**
 * Repairs the remaining experts of a mixture: one after the other, least squares change the second linear layer of each, to reduce
 * the error of the mixture's result on the tokens that will be routed there. Changes that do not help on held-out tokens are
 * dropped. Must be called before the mixture is pruned.
 *
 * @returns undefined if the experts cannot be repaired, see `canRepair`.
 */
export async function solveExperts(
  context: PruneContext,
  model: OnnxModel,
  { module, keep, neurons, runner }: ModuleCut & { readonly runner: BlockRunner },
): Promise<ExpertRepair | undefined> {
  const { engine, options, analysed } = context.job;
  if (!canRepair(analysed, module)) return undefined;
  const detail = segmentName(module.segment, analysed.detected.layout.modules);
  const sample = await sampleRouting({ runner, module, metric: undefined, onBatch: () => context.tick(detail, 0) });
  const { inputCount: expertCount, outputCount: size } = module.output;
  const opened = await openExperts(context, { model, module, sample, metric: undefined });
  const probe = await openNeurons({ engine, analysed, model, module, type: sample.type });
  try {
    const router = await findRouter({
      sample,
      expertCount,
      size,
      probe: opened.probe,
      routers: opened.routers,
      leastExperts: module.leastExperts!,
      row: EXPERT_SCORES[options.expertScore],
    }).catch((error: unknown) => {
      if (!(error instanceof UnsupportedModelError)) throw error;
      return undefined;
    });
    if (router === undefined) {
      context.remarks.push(
        `block ${module.block} experts: not repaired: after pruning the blocks before it, the router sends its tokens to other experts than measured`,
      );
      return undefined;
    }
    const remaining = new Uint8Array(expertCount);
    for (const expert of keep) remaining[expert] = 1;
    const routes = await routeAll({ sample, router }, remaining);
    const repair: MixtureRepair = {
      context,
      detail,
      sample,
      probe,
      opened,
      routes,
      weightElsewhere: options.allExperts ? weighTokens(routes, expertCount).others : undefined,
      size,
      neurons: module.neurons!,
      expertCount,
      remainingOf: remainingNeurons({ module, keep, neurons }),
    };
    return await solveAll(repair, keep);
  } finally {
    await Promise.all([opened.release(), probe.release()]);
  }
}

interface MixtureRepair {
  readonly context: PruneContext;
  /** Name of the mixture in progress messages. */
  readonly detail: string;
  readonly sample: Awaited<ReturnType<typeof sampleRouting>>;
  readonly probe: Awaited<ReturnType<typeof openNeurons>>;
  readonly opened: Awaited<ReturnType<typeof openExperts>>;
  readonly routes: readonly RoutedToken[];
  /** By expert: weight of tokens that are routed elsewhere, if these are trained on too. */
  readonly weightElsewhere: Float64Array | undefined;
  readonly neurons: NonNullable<ModuleCut['module']['neurons']>;
  readonly expertCount: number;
  readonly size: number;
  /** Neurons that remain in an expert. */
  remainingOf(expert: number): Int32Array;
}

/** Neurons, not units, that remain in each expert. */
function remainingNeurons({ module, keep, neurons }: ModuleCut): (expert: number) => Int32Array {
  const { unitCount, unitSize } = module.neurons!;
  const all = Int32Array.from({ length: unitCount }, (_, unit) => unit);
  const width = neurons === undefined ? unitCount : neurons.length / keep.length;
  return (expert) => {
    const at = keep.indexOf(expert);
    const units = neurons?.subarray(at * width, (at + 1) * width) ?? all;
    return Int32Array.from(
      [...units].flatMap((unit) => Array.from({ length: unitSize }, (_, i) => unit * unitSize + i)),
    );
  };
}

async function solveAll(repair: MixtureRepair, keep: Int32Array): Promise<ExpertRepair> {
  const { sample, routes, size } = repair;
  // Dense results minus the remaining experts' contributions, which are subtracted one by one.
  const residual = Float64Array.from(sample.outputs);
  const heldOut = (values: ArrayLike<number>) => {
    let sum = 0;
    for (let token = 0; token < sample.tokenCount; token += HELD_OUT)
      for (let at = token * size; at < (token + 1) * size; at += 1) sum += values[at]! ** 2;
    return sum;
  };
  const total = heldOut(residual);
  const parts = inParts(repair, routes).map((experts) => experts.filter((expert) => keep.includes(expert)));
  for (const experts of parts)
    for await (const expert of runParts(repair, experts))
      if (expert.tokens.length > 0) await subtractExpert(repair, expert, residual);
  const before = heldOut(residual);
  const linears = new Map<number, Float64Array>();
  for (const experts of parts) {
    for await (const expert of runParts(repair, experts)) {
      const linear = await solveExpert(repair, expert, { residual, elsewhere: await runElsewhere(repair, expert) });
      if (linear !== undefined) linears.set(keep.indexOf(expert.number), linear);
    }
  }
  if (!(total > 0)) return { linears };
  return { linears, error: { before: before / total, after: heldOut(residual) / total, basis: 'tokens' } };
}

/** Values of an expert on the tokens that are routed there. */
interface RunExpert {
  readonly number: number;
  /** Ascending. */
  readonly tokens: readonly number[];
  readonly routingWeights: readonly number[];
  /** `[tokens, kept neurons]`, times the routing weights. */
  readonly values: Float64Array;
  /** Neurons that remain. */
  readonly width: number;
}

async function* runParts(repair: MixtureRepair, experts: readonly number[]): AsyncGenerator<RunExpert> {
  const { context, detail, neurons, routes } = repair;
  const all = await runExperts(repair, routes, experts);
  const fullWidth = neurons.unitCount * neurons.unitSize;
  for (const number of experts) {
    context.job.options.signal?.throwIfAborted();
    context.tick(detail);
    const remaining = repair.remainingOf(number);
    const allValues = all.get(number)!;
    all.delete(number);
    const routed = routes.flatMap((route, token) => {
      const rank = route.experts.indexOf(number);
      return rank < 0 ? [] : [{ token, routingWeight: route.routingWeights[rank]! }];
    });
    if (routed.length === 0 && repair.weightElsewhere === undefined) continue;
    const values = new Float64Array(routed.length * remaining.length);
    for (let row = 0; row < routed.length; row += 1)
      for (let at = 0; at < remaining.length; at += 1)
        values[row * remaining.length + at] = allValues[row * fullWidth + remaining[at]!]!;
    const width = remaining.length;
    yield {
      number,
      values,
      width,
      tokens: routed.map(({ token }) => token),
      routingWeights: routed.map(({ routingWeight }) => routingWeight),
    };
  }
}

/** Values of an expert on tokens that are routed to other experts. */
interface ElsewhereTokens extends Pick<RunExpert, 'tokens' | 'values'> {
  /** `[tokens, channels]`, contribution of the removed neurons. */
  readonly removedPart: Float64Array;
}

async function runElsewhere(
  repair: MixtureRepair,
  { number, tokens: own }: Pick<RunExpert, 'number' | 'tokens'>,
): Promise<ElsewhereTokens | undefined> {
  const { context, probe, routes, neurons, size, weightElsewhere } = repair;
  const weight = weightElsewhere?.[number] ?? 0;
  if (weight === 0) return undefined;
  const routed = new Set(own);
  const tokens = Array.from(routes.keys()).filter((token) => !routed.has(token));
  const toExpert = { experts: [number], routingWeights: [weight] };
  const toNone = { experts: [], routingWeights: [] };
  const found = await runExperts(
    repair,
    routes.map((_, token) => (routed.has(token) ? toNone : toExpert)),
    [number],
  );
  const allValues = found.get(number)!;
  const width = neurons.unitCount * neurons.unitSize;
  const remaining = repair.remainingOf(number);
  const remains = new Set(remaining);
  const removed = Array.from({ length: width }, (_, neuron) => neuron).filter((neuron) => !remains.has(neuron));
  const pick = (columns: ArrayLike<number>) =>
    Float64Array.from(
      { length: tokens.length * columns.length },
      (_, at) => allValues[Math.floor(at / columns.length) * width + columns[at % columns.length]!]!,
    );
  const second = await probe.readSecondLinear(number);
  const linear = Float64Array.from(
    { length: size * removed.length },
    (_, at) => second[removed[at % removed.length]! * size + Math.floor(at / removed.length)]!,
  );
  const removedPart =
    removed.length === 0
      ? new Float64Array(tokens.length * size)
      : await context.multiply(pick(removed), linear, { rows: tokens.length, columns: size, inner: removed.length });
  return { tokens, values: pick(remaining), removedPart };
}

/** Subtracts the contribution of an expert's remaining neurons, and its bias, from the residual. */
async function subtractExpert(repair: MixtureRepair, expert: RunExpert, residual: Float64Array): Promise<void> {
  const { context, probe, opened, sample, size, neurons } = repair;
  const { number, tokens, routingWeights, values } = expert;
  const width = neurons.unitCount * neurons.unitSize;
  const second = await probe.readSecondLinear(number);
  const remaining = repair.remainingOf(number);
  const columns = new Float64Array(size * remaining.length);
  for (let at = 0; at < remaining.length; at += 1)
    for (let channel = 0; channel < size; channel += 1)
      columns[channel * remaining.length + at] = second[remaining[at]! * size + channel]!;
  const added = await context.multiply(values, columns, {
    rows: tokens.length,
    columns: size,
    inner: remaining.length,
  });
  // The bias is the part of the expert's result that does not come from its neurons.
  const [first = 0] = tokens;
  const row = sample.inputs.subarray(first * size, (first + 1) * size);
  const { weighted } = await opened.probe.run(row, [[number]]);
  const ofRow = await probe.run(row, [[number]]);
  const bias = Float64Array.from({ length: size }, (_, channel) => {
    let sum = weighted[channel]!;
    for (let neuron = 0; neuron < width; neuron += 1) sum -= ofRow[neuron]! * second[neuron * size + channel]!;
    return sum;
  });
  tokens.forEach((token, at) => {
    for (let channel = 0; channel < size; channel += 1)
      residual[token * size + channel]! -= added[at * size + channel]! + routingWeights[at]! * bias[channel]!;
  });
}

interface ExpertTargets {
  /** `[tokens, channels]`, error of the mixture's result, which the repair reduces. */
  readonly residual: Float64Array;
  readonly elsewhere: ElsewhereTokens | undefined;
}

/** Solves for an addition to an expert's linear layer, and updates the residual; undefined if it does not help. */
async function solveExpert(
  { context, size }: MixtureRepair,
  { tokens, values, width }: RunExpert,
  { residual, elsewhere }: ExpertTargets,
): Promise<Float64Array | undefined> {
  const { multiply, job } = context;
  const targetOf = (at: number) => residual.subarray(tokens[at]! * size, (tokens[at]! + 1) * size);
  const sets: readonly RepairRows[] = [
    { tokens, values, targetOf },
    ...(elsewhere
      ? [{ ...elsewhere, targetOf: (at: number) => elsewhere.removedPart.subarray(at * size, (at + 1) * size) }]
      : []),
  ];
  const learned = sets.flatMap((rows) =>
    [...rows.tokens.keys()].filter((at) => rows.tokens[at]! % HELD_OUT !== 0).map((at) => ({ rows, at })),
  );
  const rowCount = sets.reduce((sum, rows) => sum + rows.tokens.length, 0);
  if (learned.length === 0 || learned.length === rowCount) return undefined;
  const [neuronRows, channelRows] = [new Float64Array(width * learned.length), new Float64Array(size * learned.length)];
  learned.forEach(({ rows, at }, column) => {
    for (let neuron = 0; neuron < width; neuron += 1)
      neuronRows[neuron * learned.length + column] = rows.values[at * width + neuron]!;
    const target = rows.targetOf(at);
    for (let channel = 0; channel < size; channel += 1)
      channelRows[channel * learned.length + column] = target[channel]!;
  });
  const linear = await solveRidge({
    features: neuronRows,
    targets: channelRows,
    width,
    size,
    sampleCount: learned.length,
    multiply,
    dampening: job.options.dampening ?? DAMPENING,
  });
  if (linear === undefined) return undefined;
  let change = 0;
  let added: Float64Array = new Float64Array();
  for (const rows of sets.toReversed()) {
    added = await multiply(rows.values, linear, { rows: rows.tokens.length, columns: size, inner: width });
    rows.tokens.forEach((token, at) => {
      if (token % HELD_OUT !== 0) return;
      const target = rows.targetOf(at);
      for (let channel = 0; channel < size; channel += 1)
        change += (target[channel]! - added[at * size + channel]!) ** 2 - target[channel]! ** 2;
    });
  }
  if (!(change < 0)) return undefined;
  tokens.forEach((token, at) => {
    for (let channel = 0; channel < size; channel += 1)
      residual[token * size + channel]! -= added[at * size + channel]!;
  });
  return linear;
}

/** Training and held-out tokens of a repair. */
interface RepairRows extends Pick<RunExpert, 'tokens' | 'values'> {
  targetOf(at: number): Float64Array;
}

/** Adds changes to the second linear layers of a pruned mixture. @returns Their weight as it will be saved. */
export async function writeSecondLinears(
  { job: { analysed, store } }: PruneContext,
  model: OnnxModel,
  { module, linears }: ModuleCut & Pick<ExpertRepair, 'linears'>,
): Promise<readonly [name: string, value: TensorHandle]> {
  const { second, labels } = analysed.detected.traces[module.index]!.neurons!;
  const handle = model.weights.get(second.weight)!;
  const { dataType, dims } = handle;
  const [count = 1, rows = 1, columns = 1] = dims;
  const values = await readFloat32(handle);
  for (const [place, linear] of linears) {
    // `[channels, neurons]`, or transposed.
    const inFileLayout =
      labels.get(second.weight)!.axis === 2
        ? Float32Array.from(linear)
        : transposeMatrix(Float32Array.from(linear), columns, rows);
    const start = (place * values.length) / count;
    for (let at = 0; at < inFileLayout.length; at += 1) values[start + at]! += inFileLayout[at]!;
  }
  const written = await store({ dataType, dims }, encodeFloats(dataType, values));
  setWeight(model, second.weight, written);
  return [second.weight, written];
}
