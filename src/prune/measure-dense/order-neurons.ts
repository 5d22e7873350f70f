import type { NeuronCostMeter, NeuronProbe } from '../../activations/expert-neurons.js';
import type { ExpertRouter, RoutedToken } from '../../activations/expert-router.js';
import type { ExpertNeurons } from '../../architecture/layout.js';
import { NumericalError } from '../../errors.js';
import { sum } from '../../linalg/sum.js';
import { routeEverywhere } from './all-experts.js';
import type { NeuronOrder } from './order-units.js';
import type { RoutingSample } from './sample-routing.js';

export interface NeuronOrderRequest {
  readonly sample: Pick<RoutingSample, 'tokenCount' | 'inputs'>;
  readonly probe: Pick<NeuronProbe, 'run' | 'readSecondLinear'>;
  readonly costMeter: Pick<NeuronCostMeter, 'weigh' | 'measure'>;
  readonly router: ExpertRouter;
  readonly neurons: ExpertNeurons;
  readonly expertCount: number;
  /** Input channels of the experts. */
  readonly size: number;
  /** Whether all tokens count for every expert, see `routeEverywhere`, not only those that are routed there. */
  readonly allExperts?: boolean | undefined;
  /** Called after each expert. */
  onExpert?(): void;
}

/** Rounds in which all neurons of an expert would be removed; costs of the remaining ones are measured again in each. */
const ROUNDS = 8;

/** Most tokens that are routed, or run, together. */
const ROWS = 1024;

/** Most bytes of neuron values in memory, unless one expert has more. */
const MAX_HELD_BYTES = 2 ** 28;

/**
 * Orders the neurons inside each expert of a mixture by the cost of their removal: the change of the mixture's result, in the
 * metric, on the expert's tokens. Neurons are removed in rounds, since costs of the remaining ones change; the measured joint
 * cost of a round is divided among its neurons.
 *
 * A cost is twice the mean square of the change over all tokens, as that of an entire expert is. Changes by the experts of one
 * token are assumed to be independent.
 */
export async function orderNeurons(request: NeuronOrderRequest): Promise<NeuronOrder> {
  const { neurons, expertCount } = request;
  const { unitCount } = neurons;
  const order = {
    scores: new Float64Array(expertCount * unitCount),
    costs: new Float64Array(expertCount * unitCount),
  };
  const routed = await routeAll(request, new Uint8Array(expertCount).fill(1));
  const routes = request.allExperts ? routeEverywhere(routed, expertCount) : routed;
  for (const experts of inParts(request, routes)) {
    const valuesOf = await runExperts(request, routes, experts);
    for (const expert of experts) {
      const own = await orderExpert(request, expert, valuesOf.get(expert)!);
      order.scores.set(own.scores, expert * unitCount);
      order.costs.set(own.costs, expert * unitCount);
      request.onExpert?.();
    }
  }
  return order;
}

/** Routes all tokens. @param remaining By expert: 1 for remaining ones. */
export async function routeAll(
  { sample, router }: Pick<NeuronOrderRequest, 'router'> & { readonly sample: Pick<RoutingSample, 'tokenCount'> },
  remaining: Uint8Array,
): Promise<RoutedToken[]> {
  const routes: RoutedToken[] = [];
  for (let start = 0; start < sample.tokenCount; start += ROWS) {
    const tokens = Array.from({ length: Math.min(ROWS, sample.tokenCount - start) }, (_, at) => start + at);
    routes.push(...(await router.route(tokens, remaining)));
  }
  return routes;
}

/** Lists of experts whose tokens fit into memory together. */
export function inParts(
  { neurons, expertCount }: Pick<NeuronOrderRequest, 'neurons' | 'expertCount'>,
  routes: readonly RoutedToken[],
): number[][] {
  const counts = new Int32Array(expertCount);
  for (const { experts } of routes) for (const expert of experts) counts[expert]! += 1;
  const bytesPerToken = 4 * neurons.unitCount * neurons.unitSize;
  const parts: number[][] = [];
  let left = 0;
  for (let expert = 0; expert < expertCount; expert += 1) {
    const bytes = counts[expert]! * bytesPerToken;
    if (parts.length === 0 || bytes > left) {
      parts.push([]);
      left = MAX_HELD_BYTES;
    }
    parts.at(-1)!.push(expert);
    left -= bytes;
  }
  return parts;
}

/** Neurons of some experts for their tokens, times the routing weights: `[tokens, neurons]` each. */
export async function runExperts(
  { sample, probe, size, neurons }: Omit<NeuronOrderRequest, 'costMeter' | 'router' | 'expertCount'>,
  routes: readonly RoutedToken[],
  experts: readonly number[],
): Promise<Map<number, Float32Array>> {
  const width = neurons.unitCount * neurons.unitSize;
  const wanted = new Set(experts);
  const pairsOf = (route: RoutedToken) =>
    route.experts.flatMap((expert, rank) =>
      wanted.has(expert) ? [{ expert, routingWeight: route.routingWeights[rank]! }] : [],
    );
  const counts = new Map(experts.map((expert) => [expert, 0]));
  for (const route of routes) for (const { expert } of pairsOf(route)) counts.set(expert, counts.get(expert)! + 1);
  const results = new Map(experts.map((expert) => [expert, new Float32Array(counts.get(expert)! * width)]));
  const filled = new Map(experts.map((expert) => [expert, 0]));
  for (let start = 0; start < routes.length; start += ROWS) {
    const pairs = routes.slice(start, start + ROWS).map(pairsOf);
    const rows = sample.inputs.subarray(start * size, (start + pairs.length) * size);
    const values = await probe.run(
      rows,
      pairs.map((own) => own.map(({ expert }) => expert)),
    );
    pairs.flat().forEach(({ expert, routingWeight }, at) => {
      const to = filled.get(expert)!;
      const target = results.get(expert)!;
      for (let neuron = 0; neuron < width; neuron += 1)
        target[to + neuron] = routingWeight * values[at * width + neuron]!;
      filled.set(expert, to + width);
    });
  }
  return results;
}

/** Orders the neurons of one expert. @param values `[tokens, neurons]`, times the routing weights. */
async function orderExpert(
  { sample, probe, costMeter, neurons }: NeuronOrderRequest,
  expert: number,
  values: Float32Array,
): Promise<NeuronOrder> {
  const { unitCount, unitSize } = neurons;
  const scores = new Float64Array(unitCount);
  const costs = new Float64Array(unitCount);
  // Without tokens all neurons are equal, and the order is by index.
  if (values.length === 0) return { scores: scores.map((_, unit) => unit), costs };
  const weighted = await costMeter.weigh(await probe.readSecondLinear(expert));
  const isRemoved = new Float32Array(unitCount * unitSize);
  const scale = 2 / sample.tokenCount;
  const remaining = new Uint8Array(unitCount).fill(1);
  let [removedCount, highest, last] = [0, 0, 0];
  /** Units removed in the last round. */
  let removed: readonly { readonly unit: number; readonly rise: number }[] = [];
  const addCosts = (total: number): void => {
    const jointCost = Math.max(0, total - last);
    const sumOfRises = removed.reduce((sum, { rise }) => sum + Math.max(0, rise), 0);
    removed.forEach(({ unit, rise }, at) => {
      const cost = sumOfRises > 0 ? (jointCost * Math.max(0, rise)) / sumOfRises : jointCost / removed.length;
      highest = Math.max(highest, cost);
      costs[removedCount - removed.length + at] = scale * highest;
      scores[unit] = removedCount - removed.length + at;
    });
    last = total;
  };
  const atOnce = Math.ceil(unitCount / ROUNDS);
  for (;;) {
    const { total, rises } = await costMeter.measure(values, weighted, isRemoved);
    if (!Number.isFinite(total)) throw new NumericalError('the output of expert neurons is NaN or infinite');
    addCosts(total);
    if (removedCount === unitCount) return { scores, costs };
    const riseOf = (unit: number) => sum(rises.subarray(unit * unitSize, (unit + 1) * unitSize));
    removed = Array.from(remaining.keys())
      .filter((unit) => remaining[unit] === 1)
      .map((unit) => ({ unit, rise: riseOf(unit) }))
      .sort((a, b) => a.rise - b.rise || a.unit - b.unit)
      .slice(0, atOnce);
    for (const { unit } of removed) {
      remaining[unit] = 0;
      isRemoved.fill(1, unit * unitSize, (unit + 1) * unitSize);
    }
    removedCount += removed.length;
  }
}
