import ndarray from 'ndarray';
import { type NeuronProbe, openFusedNeurons, openNeuronCostMeter } from '../../activations/expert-neurons.js';
import { openExpertProbe } from '../../activations/expert-probe.js';
import { type ExpertRouter, routeByScores } from '../../activations/expert-router.js';
import { MIXINGS, type MixingName } from '../../activations/mix-experts.js';
import {
  openGatheredNeurons,
  openWrittenProbe,
  openWrittenRouter,
  type WrittenExpertsRequest,
} from '../../activations/written-experts.js';
import type { PrunableModule } from '../../architecture/layout.js';
import { FULL_CREDIBILITY } from '../../importance/credible-costs.js';
import { EXPERT_SCORES } from '../../importance/expert-scores.js';
import { copyModel } from '../../onnx/edit-weights.js';
import type { OnnxModel } from '../../onnx/onnx-model.js';
import { checkpoint } from '../../platform/journal.js';
import { withModuleContext } from '../../removal/score-module.js';
import type { BlockRunner } from '../../runtime/block-runner.js';
import type { TensorStore } from '../../runtime/tensor-store.js';
import { takesNeurons } from '../budget/mixture-steps.js';
import { type PruneContext, segmentName } from '../prune-context.js';
import { weightByMetric } from '../shrink/weight-by-metric.js';
import type { DenseNeeds } from './dense-measures.js';
import { byIndex, byModule, type IndexedMap } from './indexed-map.js';
import { findRouter, orderExperts } from './order-experts.js';
import { orderNeurons } from './order-neurons.js';
import type { NeuronOrder, RemovalOrderOfModule } from './order-units.js';
import { type RoutingSample, sampleRouting } from './sample-routing.js';

type ExpertOrders = ReadonlyMap<PrunableModule, RemovalOrderOfModule>;

/** Modules of other kinds are passed by. */
export interface ExpertNeeds extends Pick<DenseNeeds, 'modules'> {
  readonly curvatures: Pick<TensorStore, 'get'> | undefined;
}

interface SavedOrders {
  readonly orders: IndexedMap<ExpertOrders>;
  readonly remarks: readonly string[];
}

/** Experts that a remark names. */
const NAMED = 8;

/**
 * In which order experts leave the dense model and what that costs, by one more pass through it: whatever the method, experts are
 * chosen by what their mixture loses. From its checkpoint where an earlier run saved it.
 */
export async function measureExperts(context: PruneContext, needs: ExpertNeeds): Promise<ExpertOrders> {
  const modules = needs.modules.filter(({ kind }) => kind === 'experts');
  if (modules.length === 0) return new Map();
  const { orders, remarks } = await checkpoint<SavedOrders>(context.job.journal, 'experts', {
    bytes: () => 0,
    async make() {
      const before = context.remarks.length;
      const found = await context.timed('experts', () => measureMixtures(context, { ...needs, modules }));
      return { orders: byIndex(found), remarks: context.remarks.splice(before) };
    },
  });
  context.remarks.push(...remarks);
  return byModule(modules, orders);
}

/** Runs of a mixture on single experts take so many ticks of a batch, roughly. */
const TICKS_PER_BATCH = 8;

async function measureMixtures(context: PruneContext, needs: ExpertNeeds): Promise<ExpertOrders> {
  const { job, batches } = context;
  const last = Math.max(...needs.modules.map(({ segment }) => segment));
  const orders = new Map<PrunableModule, RemovalOrderOfModule>();
  context.begin('experts', last + 1, TICKS_PER_BATCH * Math.max(1, batches.length));
  const runner = await context.startRunner(copyModel(job.model), { isFixed: true });
  try {
    while (runner.segment < last) {
      job.options.signal?.throwIfAborted();
      context.startPart(runner.segment);
      await context.pass(runner);
      for (const module of needs.modules.filter(({ segment }) => segment === runner.segment))
        orders.set(module, await withModuleContext(module, () => orderModule(context, needs, { runner, module })));
    }
  } finally {
    await runner.dispose();
  }
  context.finish();
  return orders;
}

interface ExpertCase {
  readonly runner: BlockRunner;
  readonly module: PrunableModule;
}

async function orderModule(
  context: PruneContext,
  { curvatures }: ExpertNeeds,
  { runner, module }: ExpertCase,
): Promise<RemovalOrderOfModule> {
  const { model, options, analysed } = context.job;
  const { inputCount: expertCount, outputCount: size } = module.output;
  const detail = segmentName(module.segment, analysed.detected.layout.modules);
  const metric = curvatures && (await metricOf(context, module, curvatures));
  const sample = await sampleRouting({ runner, module, metric, onBatch: () => context.tick(detail) });
  context.remarks.push(...remarkFew(module, sample, context.job.windows.length));
  const opened = await openExperts(context, { model, module, sample, metric });
  const onRun = () => {
    options.signal?.throwIfAborted();
    context.tick(detail);
  };
  try {
    const request = {
      sample,
      expertCount,
      size,
      probe: opened.probe,
      routers: opened.routers,
      row: EXPERT_SCORES[options.expertScore],
      leastExperts: module.leastExperts!,
      groupOfExpert: module.groupOfUnit,
      onRun,
    };
    const order = await orderExperts(request);
    if (!takesNeurons(module, options)) return order;
    const router = await findRouter(request);
    return { ...order, neurons: await orderInside(context, { model, module, sample, metric, router, onRun }) };
  } finally {
    await opened.release();
  }
}

interface InsideCase extends SampledExperts {
  readonly router: ExpertRouter;
  onRun(): void;
}

/** Orders the neurons inside a mixture's experts. */
async function orderInside(
  { job: { engine, analysed } }: PruneContext,
  { model, module, sample, metric, router, onRun }: InsideCase,
): Promise<NeuronOrder> {
  const neurons = module.neurons!;
  const { inputCount: expertCount, outputCount: size } = module.output;
  const probe = await openNeurons({ engine, analysed, model, module, type: sample.type });
  try {
    const neuronCount = neurons.unitCount * neurons.unitSize;
    const costMeter = await openNeuronCostMeter({ engine, neuronCount, size, metric });
    try {
      return await orderNeurons({ sample, probe, costMeter, router, neurons, expertCount, size, onExpert: onRun });
    } finally {
      await costMeter.release();
    }
  } finally {
    await probe.release();
  }
}

export interface SampledExperts {
  readonly model: OnnxModel;
  readonly module: PrunableModule;
  readonly sample: RoutingSample;
  readonly metric: Float32Array | undefined;
}

/** Opens a mixture's experts and its router apart. */
export async function openExperts(context: PruneContext, { model, module, sample, metric }: SampledExperts) {
  const { engine, analysed } = context.job;
  const { type, inputs, scores } = sample;
  if (module.writtenExperts !== undefined) {
    const request = { engine, model, analysed, module, type };
    const router = await openWrittenRouter({ ...request, inputs });
    const probe = await openWrittenProbe({ ...request, metric });
    const release = async () => void (await Promise.all([router.release(), probe.release()]));
    return { probe, routers: [router], release };
  }
  const probe = await openExpertProbe({ engine, model, module, type, metric });
  const given = { scores, expertCount: module.output.inputCount, expertsPerToken: module.expertsPerToken! };
  const routers = (Object.keys(MIXINGS) as MixingName[]).map((mixing) => routeByScores(given, mixing));
  return { probe, routers, release: () => probe.release() };
}

/** Opens the neurons inside a mixture's experts. */
export const openNeurons = (request: WrittenExpertsRequest): Promise<NeuronProbe> =>
  request.module.writtenExperts === undefined ? openFusedNeurons(request) : openGatheredNeurons(request);

/** `[size, size]` row-major, what a row is multiplied by so that its squared length is its cost in the metric. */
async function metricOf(
  context: PruneContext,
  module: PrunableModule,
  curvatures: Pick<TensorStore, 'get'>,
): Promise<Float32Array> {
  const { outputCount: size } = module.output;
  const { data } = await curvatures.get(module.index);
  const identity = new Float32Array(size * size);
  for (let at = 0; at < size; at += 1) identity[at * size + at] = 1;
  const weight = ndarray(identity, [size, size]);
  const weighted = await weightByMetric(context, module, {
    weight,
    curvature: Float64Array.from(data as Float32Array),
  });
  // R maps columns; rows take its transpose.
  return Float32Array.from({ length: size * size }, (_, at) => weighted.get(at % size, Math.floor(at / size)));
}

/** Names experts that the calibration hardly reached, and how much more of it would reach them. */
function remarkFew({ block, kind }: PrunableModule, { counts }: RoutingSample, windowCount: number): string[] {
  const few = [...counts.keys()].filter((expert) => counts[expert]! < FULL_CREDIBILITY);
  if (few.length === 0) return [];
  const named = few.slice(0, NAMED).map((expert) => `expert ${expert}: ${counts[expert]}`);
  const rest = few.length > NAMED ? ', ...' : '';
  const reached = few.filter((expert) => counts[expert]! > 0);
  const missed = few.length - reached.length;
  const least = Math.min(...reached.map((expert) => counts[expert]!));
  const windows = `about ${Math.ceil((windowCount * FULL_CREDIBILITY) / least)} windows like these ${windowCount}`;
  const remedies = [
    ...(reached.length > 0 ? [`${windows} would give so many to each${missed > 0 ? ' that got any' : ''}`] : []),
    ...(missed > 0
      ? [`${missed === few.length ? 'they' : `the ${missed} without a token`} need text of another kind`]
      : []),
  ];
  return [
    `block ${block} ${kind}: ${few.length} of ${counts.length} experts got fewer than ${FULL_CREDIBILITY} calibration tokens ` +
      `(${named.join(', ')}${rest}); their scores are uncertain; ${remedies.join('; ')}`,
  ];
}
