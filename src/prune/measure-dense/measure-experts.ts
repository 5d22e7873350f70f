import ndarray from 'ndarray';
import { type NeuronProbe, openFusedNeurons, openNeuronCostMeter } from '../../activations/expert-neurons.js';
import { openExpertProbe } from '../../activations/expert-probe.js';
import { type ExpertRouter, routeByScores } from '../../activations/expert-router.js';
import { MIXINGS, type MixingName } from '../../activations/mix-experts.js';
import { runMeters } from '../../activations/stage-meter.js';
import {
  openGatheredNeurons,
  openUnfusedProbe,
  openUnfusedRouter,
  type UnfusedExpertsRequest,
} from '../../activations/unfused-experts.js';
import type { PrunableModule } from '../../architecture/layout.js';
import { FULL_CREDIBILITY } from '../../importance/credible-costs.js';
import { EXPERT_SCORES } from '../../importance/expert-scores.js';
import { copyModel } from '../../onnx/edit-weights.js';
import type { OnnxModel } from '../../onnx/onnx-model.js';
import { withModuleContext } from '../../removal/score-module.js';
import type { BlockRunner } from '../../runtime/block-runner.js';
import { checkpoint } from '../../runtime/journal.js';
import type { TensorStore } from '../../runtime/tensor-store.js';
import { mayRemoveNeurons } from '../mixture-steps.js';
import { type PruneContext, segmentName } from '../prune-context.js';
import { weightByMetric } from '../weight-by-metric.js';
import type { DenseMeasures, DenseNeeds, MixtureRouting, ModuleContexts } from './dense-measures.js';
import { byIndex, byModule, type IndexedMap } from './indexed-map.js';
import { findRouter, orderExperts } from './order-experts.js';
import { orderNeurons } from './order-neurons.js';
import type { ModuleRemovalOrder, NeuronOrder } from './order-units.js';
import { type RoutingSample, sampleRouting } from './sample-routing.js';
import { type ContextSearchRequest, contextFeature, searchContexts } from './search-contexts.js';

/** Needs for measuring mixtures; modules of other kinds are ignored. */
export interface ExpertNeeds extends Pick<DenseNeeds, 'modules' | 'grouping'> {
  readonly curvatures: Pick<TensorStore, 'get'> | undefined;
  /** FFNs with known contexts, which a mixture with the same input reuses. */
  readonly functional: DenseMeasures['functional'];
}

/** Measurements of mixtures. */
export interface ExpertMeasures {
  readonly orders: ReadonlyMap<PrunableModule, ModuleRemovalOrder>;
  /** If tokens have contexts. */
  readonly routings: ReadonlyMap<PrunableModule, MixtureRouting>;
}

interface SavedMeasures {
  readonly orders: IndexedMap<ExpertMeasures['orders']>;
  readonly routings: IndexedMap<ExpertMeasures['routings']>;
  readonly remarks: readonly string[];
}

/** Most experts that a remark names. */
const NAMED = 8;

/**
 * Computes the removal orders and costs of the dense model's experts, in another forward pass, or reads them from a checkpoint.
 * They are the same for all methods: an expert's cost is the error of its mixture. If tokens have contexts, the pass also counts
 * the tokens of each context by expert.
 */
export async function measureExperts(context: PruneContext, needs: ExpertNeeds): Promise<ExpertMeasures> {
  const modules = needs.modules.filter(({ kind }) => kind === 'experts');
  if (modules.length === 0) return { orders: new Map(), routings: new Map() };
  const { orders, routings, remarks } = await checkpoint<SavedMeasures>(context.job.journal, 'experts', {
    bytes: () => 0,
    async make() {
      const before = context.remarks.length;
      const found = await context.timed('experts', () => measureMixtures(context, { ...needs, modules }));
      return {
        orders: byIndex(found.orders),
        routings: byIndex(found.routings),
        remarks: context.remarks.splice(before),
      };
    },
  });
  context.remarks.push(...remarks);
  return { orders: byModule(modules, orders), routings: byModule(modules, routings) };
}

/** Approximate ticks of progress per batch for runs of single experts. */
const TICKS_PER_BATCH = 8;

async function measureMixtures(context: PruneContext, needs: ExpertNeeds): Promise<ExpertMeasures> {
  const { job, batches } = context;
  const last = Math.max(...needs.modules.map(({ segment }) => segment));
  const orders = new Map<PrunableModule, ModuleRemovalOrder>();
  const routings = new Map<PrunableModule, MixtureRouting>();
  context.begin('experts', last + 1, TICKS_PER_BATCH * Math.max(1, batches.length));
  const runner = await context.startRunner(copyModel(job.model), { isFixed: true });
  try {
    while (runner.segment < last) {
      job.options.signal?.throwIfAborted();
      context.startPart(runner.segment);
      await context.pass(runner);
      for (const module of needs.modules.filter(({ segment }) => segment === runner.segment)) {
        const found = await withModuleContext(module, () => measureMixture(context, needs, { runner, module }));
        orders.set(module, found.order);
        if (found.routing) routings.set(module, found.routing);
      }
    }
  } finally {
    await runner.dispose();
  }
  context.finish();
  return { orders, routings };
}

interface ExpertCase {
  readonly runner: BlockRunner;
  readonly module: PrunableModule;
}

async function measureMixture(
  context: PruneContext,
  needs: ExpertNeeds,
  { runner, module }: ExpertCase,
): Promise<{ readonly order: ModuleRemovalOrder; readonly routing?: MixtureRouting }> {
  const { analysed, windows } = context.job;
  const detail = segmentName(module.segment, analysed.detected.layout.modules);
  const metric = needs.curvatures && (await metricOf(context, module, needs.curvatures));
  const contexts = await findContexts(context, needs, { runner, module });
  const sample = await sampleRouting({ runner, module, metric, contexts, onBatch: () => context.tick(detail) });
  context.remarks.push(...remarkFew(module, sample, windows.length));
  const order = await orderModule(context, { module, sample, metric, detail });
  return { order, ...(contexts && { routing: { contexts, tokens: sample.countsByContext! } }) };
}

/** Contexts of a mixture's tokens, if the options group neurons. */
async function findContexts(
  context: PruneContext,
  { grouping, functional }: ExpertNeeds,
  { runner, module }: ExpertCase,
): Promise<MixtureRouting['contexts'] | undefined> {
  if (grouping === undefined) return undefined;
  const { layout } = context.job.analysed.detected;
  const feature = contextFeature(layout, { module, grouping });
  const shared = [...functional].find(
    ([other, { contexts }]) => other.segment === module.segment && contexts.feature === feature,
  );
  const found = shared?.[1].contexts ?? (await findOwn(context, { runner, module, grouping }));
  const { contextCount, contextOfToken, typicalTokens } = found;
  return { contextCount, contextOfToken, typicalTokens };
}

async function findOwn(
  context: PruneContext,
  { runner, ...request }: ContextSearchRequest & Pick<ExpertCase, 'runner'>,
): Promise<ModuleContexts> {
  const search = await searchContexts(context, runner, request);
  await runMeters(runner, [search.meter]);
  return search.finish();
}

interface OrderCase extends Omit<SampledExperts, 'model'> {
  /** Name of the mixture in progress messages. */
  readonly detail: string;
}

async function orderModule(
  context: PruneContext,
  { module, sample, metric, detail }: OrderCase,
): Promise<ModuleRemovalOrder> {
  const { model, options } = context.job;
  const { inputCount: expertCount, outputCount: size } = module.output;
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
    if (!mayRemoveNeurons(module, options)) return order;
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
  { job: { engine, analysed, options } }: PruneContext,
  { model, module, sample, metric, router, onRun }: InsideCase,
): Promise<NeuronOrder> {
  const neurons = module.neurons!;
  const { inputCount: expertCount, outputCount: size } = module.output;
  const probe = await openNeurons({ engine, analysed, model, module, type: sample.type });
  try {
    const neuronCount = neurons.unitCount * neurons.unitSize;
    const costMeter = await openNeuronCostMeter({ engine, neuronCount, size, metric });
    try {
      const { allExperts } = options;
      const request = { sample, probe, costMeter, router, neurons, expertCount, size, allExperts };
      return await orderNeurons({ ...request, onExpert: onRun });
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

/** Opens a mixture's experts and router so that they can be run separately. */
export async function openExperts(context: PruneContext, { model, module, sample, metric }: SampledExperts) {
  const { engine, analysed } = context.job;
  const { type, inputs, scores } = sample;
  if (module.unfusedExperts !== undefined) {
    const request = { engine, model, analysed, module, type };
    const router = await openUnfusedRouter({ ...request, inputs });
    const probe = await openUnfusedProbe({ ...request, metric });
    const release = async () => void (await Promise.all([router.release(), probe.release()]));
    return { probe, routers: [router], release };
  }
  const probe = await openExpertProbe({ engine, model, module, type, metric });
  const given = { scores, expertCount: module.output.inputCount, expertsPerToken: module.expertsPerToken! };
  const routers = (Object.keys(MIXINGS) as MixingName[]).map((mixing) => routeByScores(given, mixing));
  return { probe, routers, release: () => probe.release() };
}

/** Opens the neurons inside a mixture's experts. */
export const openNeurons = (request: UnfusedExpertsRequest): Promise<NeuronProbe> =>
  request.module.unfusedExperts === undefined ? openFusedNeurons(request) : openGatheredNeurons(request);

/** Matrix `[size, size]` row-major: the squared norm of a row times it is the row's cost in the metric. */
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

/** Names experts with few calibration tokens, and how much more text they need. */
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
    ...(reached.length > 0 ? [`${windows} would route that many to each${missed > 0 ? ' that got any' : ''}`] : []),
    ...(missed > 0 ? [`${reached.length > 0 ? 'those without a token' : 'they'} need text of another kind`] : []),
  ];
  return [
    `block ${block} ${kind}: ${few.length} of ${counts.length} experts got fewer than ${FULL_CREDIBILITY} calibration tokens ` +
      `(${named.join(', ')}${rest}); their scores are uncertain; ${remedies.join('; ')}`,
  ];
}
