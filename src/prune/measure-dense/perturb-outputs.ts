import type { NodeProto } from 'onnx-buf';
import type { PrunableModule } from '../../architecture/layout.js';
import { NumericalError } from '../../errors.js';
import { copyColumns } from '../../linalg/matrix-block.js';
import { createStream } from '../../linalg/random.js';
import { copyModel } from '../../onnx/edit-weights.js';
import { isFloatType } from '../../onnx/float-encoding.js';
import { qualifiedOp } from '../../onnx/graph-index.js';
import type { OnnxModel } from '../../onnx/onnx-model.js';
import { floatsHandle } from '../../onnx/tensor-handle.js';
import { expertTensors, FUSED_MIXTURES } from '../../operators/experts.js';
import { editGraph } from '../../removal/graph-editor.js';
import { readLinearWeight, storeInMemory, writeLinearWeight } from '../../removal/repair-linear.js';
import type { Tensor } from '../../runtime/engine.js';
import { everyNth } from '../every-nth.js';
import { measureDivergences } from '../measure-divergences.js';
import type { PruneContext } from '../prune-context.js';
import { type BackwardMeasures, orderOf } from './dense-measures.js';
import type { DensePasses } from './dense-passes.js';
import { orderModule } from './measure-backwards.js';

/** Noise on the weights of an output projection, relative to their root mean square: small, so that the divergence is quadratic. */
const NOISE = 0.1;

/** Approximate number of tokens on which each module's noise is measured. */
const TOKENS = 2048;

/** Most modules with gradients that are measured by noise too, for one common factor. */
const MAX_COMPARED = 4;

/** Modules by whether gradients have reached them. */
export interface PerturbedModules {
  readonly modules: readonly PrunableModule[];
  /** Those whose curvature is known. */
  readonly known: readonly PrunableModule[];
}

/**
 * Estimates the divergence's curvature at the outputs of modules without gradients, by forward passes: noise on the output
 * projection gives equal errors in all directions, and twice the divergence over their squared length is the curvature's mean
 * over the directions. So costs of modules are comparable; within a module, all directions are equal. If other modules have
 * gradients, some of them are measured by noise too, and the estimates are scaled to the gradients.
 *
 * @returns Removal orders, as `measureBackwards` does.
 */
export async function perturbOutputs(
  context: PruneContext,
  passes: DensePasses,
  { modules, known }: PerturbedModules,
): Promise<ReadonlyMap<PrunableModule, BackwardMeasures>> {
  const { needs, model, statisticsStore } = passes;
  const compared = [...known].sort((a, b) => a.segment - b.segment).slice(0, MAX_COMPARED);
  const all = [...modules, ...compared];
  const measured = await context.timed('perturb', () => measureNoises(context, all));
  const estimates: number[] = [];
  for (const [at, module] of all.entries()) {
    const statistics = await statisticsStore?.get(module);
    const { noise, divergence } = measured[at]!;
    const squares = statistics?.mean.reduce((sum, mean, channel) => sum + mean ** 2 + statistics.variance[channel]!, 0);
    estimates.push((2 * divergence) / (noise ** 2 * module.output.outputCount * (squares || 1)));
  }
  const ratios = await Promise.all(
    compared.map(
      async (module, at) => meanOfDiagonal(await needs.curvatures!.get(module.index)) / estimates[modules.length + at]!,
    ),
  );
  const scale = median(ratios.filter((ratio) => ratio > 0 && Number.isFinite(ratio))) ?? 1;
  const found = new Map<PrunableModule, BackwardMeasures>();
  for (const [at, module] of modules.entries()) {
    const size = module.output.outputCount;
    const adapter = module.kind === 'experts' ? undefined : orderOf(module, needs);
    const statistics = adapter && (await statisticsStore?.get(module));
    const curvature = scale * estimates[at]!;
    if (!(curvature > 0 && Number.isFinite(curvature))) throw unmeasured(module);
    const matrix = new Float64Array(size * size);
    for (let i = 0; i < size; i += 1) matrix[i * size + i] = curvature;
    await needs.curvatures!.put(module.index, { type: 'float32', dims: [size, size], data: Float32Array.from(matrix) });
    found.set(
      module,
      adapter && statistics
        ? { order: await orderModule(context, model, { module, adapter, curvature: matrix, statistics }) }
        : {},
    );
  }
  return found;
}

/** Effect of noise at a module's output. */
interface MeasuredNoise {
  /** Of each weight. */
  readonly noise: number;
  /** In nats per token. */
  readonly divergence: number;
}

/** Replaces a divergence that is NaN or not positive by the median of the others, or by the same number if all are. */
async function measureNoises(context: PruneContext, modules: readonly PrunableModule[]): Promise<MeasuredNoise[]> {
  const { job, batches } = context;
  const { layout } = job.analysed.detected;
  const stride = Math.max(1, Math.floor((job.windows.length * (job.windows[0]?.length ?? 1)) / TOKENS));
  const comparison = { engine: job.engine, windows: everyNth(job.windows, stride), signal: job.options.signal };
  const noises: number[] = [];
  async function* perturbed() {
    for (const module of modules) {
      job.options.signal?.throwIfAborted();
      const { model, noise } = await perturb(job.model, module, job.options.seed);
      noises.push(noise);
      yield { model, analysed: job.analysed };
      context.tick(`block ${module.block} ${module.kind}`, (layout.segments.length * batches.length) / modules.length);
    }
  }
  const divergences = await measureDivergences(job, perturbed(), comparison);
  const isMeasurable = (divergence: number) => divergence > 0 && Number.isFinite(divergence);
  const replacement = median(divergences.filter(isMeasurable)) ?? NOISE ** 2 / 2;
  const others = modules.filter((_, at) => !isMeasurable(divergences[at]!));
  if (others.length > 0)
    context.remarks.push(
      `noise has no measurable effect at ${others.length} of ${modules.length} modules, which count as the median of the others`,
    );
  return divergences.map((divergence, at) => ({
    noise: noises[at]!,
    divergence: isMeasurable(divergence) ? divergence : replacement,
  }));
}

const median = (values: readonly number[]): number | undefined =>
  [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)];

function meanOfDiagonal({ data, dims: [size = 1] }: Tensor): number {
  let sum = 0;
  for (let at = 0; at < size; at += 1) sum += Number(data[at * (size + 1)]);
  return sum / size;
}

async function perturb(dense: OnnxModel, { output, index, kind }: PrunableModule, seed: number) {
  const model = copyModel(dense);
  if (kind === 'experts') return { model, noise: addNoise(model, output, createStream(seed, index)) };
  const weight = await readLinearWeight(model, output);
  const columns = Array.from({ length: output.inputCount }, (_, column) => column);
  const values = copyColumns(weight, columns, new Float32Array(output.outputCount * output.inputCount));
  const squares = values.reduce((sum, value) => sum + value ** 2, 0);
  const noise = NOISE * Math.sqrt(squares / values.length);
  const random = createStream(seed, index);
  for (let at = 0; at < values.length; at += 1) values[at]! += random() < 0.5 ? -noise : noise;
  await writeLinearWeight(model, output, { values, store: storeInMemory });
  return { model, noise };
}

/** Adds the experts' result times a matrix of random signs, as large as noise on the weights of a linear layer. @returns Size of a sign. */
function addNoise(
  model: OnnxModel,
  { result, weight: stacked, outputCount: size }: PrunableModule['output'],
  random: () => number,
): number {
  const editor = editGraph(model);
  const node = editor.producerOf(result)!;
  const noise = NOISE / Math.sqrt(size);
  const signs = Float64Array.from({ length: size * size }, () => (random() < 0.5 ? -noise : noise));
  const [plain, product] = [editor.freshName(`${result}/plain`), editor.freshName(`${result}/noise`)];
  const weight = editor.addWeight(
    `${result}/signs`,
    floatsHandle({ dataType: typeOfExperts(model, node, stacked), dims: [size, size] }, signs),
  );
  node.output = node.output.map((value) => (value === result ? plain : value));
  editor.insertAfter(node, { op: 'Add', inputs: [plain, product], outputs: [result] });
  editor.insertAfter(node, { op: 'MatMul', inputs: [plain, weight], outputs: [product] });
  return noise;
}

/** ONNX data type of a mixture's computation: that of its weights, or of the scales of packed ones. */
function typeOfExperts({ weights }: OnnxModel, node: NodeProto, stacked: string): number {
  const names = FUSED_MIXTURES.has(qualifiedOp(node)) ? expertTensors(node).all : [stacked];
  return names.map((name) => weights.get(name)?.dataType ?? 0).find(isFloatType)!;
}

const unmeasured = ({ block, kind }: PrunableModule): NumericalError =>
  new NumericalError(
    `block ${block} ${kind}: its output is zero on all calibration tokens, so importance cannot be measured; ` +
      "use other calibration text, or set metric: 'output'",
  );
