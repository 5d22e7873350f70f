import type { ExpertProbe } from '../../activations/expert-probe.js';
import type { ExpertRouter, Route, RoutedToken } from '../../activations/expert-router.js';
import { NumericalError, UnsupportedModelError } from '../../errors.js';
import { credibleCosts } from '../../importance/credible-costs.js';
import type { ExpertScoreRow, ExpertStatistics } from '../../importance/expert-scores.js';
import { sum } from '../../linalg/sum.js';
import type { ModuleRemovalOrder } from './order-units.js';
import type { RoutingSample } from './sample-routing.js';

export interface ExpertOrderRequest {
  readonly sample: Pick<RoutingSample, 'type' | 'tokenCount' | 'inputs' | 'outputs'>;
  readonly probe: Pick<ExpertProbe, 'run'>;
  /** Ways in which the mixture may route; the one that reproduces its result is used. */
  readonly routers: readonly ExpertRouter[];
  readonly expertCount: number;
  /** Experts that remain. */
  readonly leastExperts: number;
  /** By expert, if the same number must be removed from every group. */
  readonly groupOfExpert?: Int32Array | undefined;
  readonly size: number;
  /** Chooses the experts to remove next. */
  readonly row: ExpertScoreRow;
  /** Called after each run of the probe. */
  onRun?(): void;
}

/** Rounds in which all experts would be removed; costs of the remaining ones are measured again in each. */
const ROUNDS = 8;

/** Most tokens in one run of the probe. */
const ROWS = 1024;

/** Largest relative squared distance of a routing's result from the mixture's: half precision and packed weights round. */
const MATCH_TOLERANCE = 1e-3;

/**
 * Orders a mixture's experts by the cost of their removal. Without an expert, the router sends its tokens to the next in its
 * order, and routing weights change; so experts are removed in rounds, with measurements before each. The measured joint cost of
 * a round is divided among its experts in proportion to their single costs. Experts in groups are removed in steps of one from
 * every group.
 *
 * A cost is twice the mean square of the change of the mixture's result, in the metric, as scores of OBC are for neurons and
 * heads. Costs of experts with few tokens are estimates, see `credibleCosts`; the differences from the measured costs are added
 * to the round's cost.
 *
 * @throws UnsupportedModelError if the runtime combines experts in another way than all routers.
 */
export async function orderExperts(request: ExpertOrderRequest): Promise<ModuleRemovalOrder> {
  const { expertCount, leastExperts, groupOfExpert, row } = request;
  const router = await findRouter(request);
  const groupCount = groupOfExpert === undefined ? 1 : Math.max(...groupOfExpert) + 1;
  const remaining = new Uint8Array(expertCount).fill(1);
  const scores = new Float64Array(expertCount);
  const costs: number[] = [];
  let remainingCount = expertCount;
  let highest = 0;
  let first: Float64Array | undefined;
  let last: { readonly removed: readonly (readonly number[])[]; readonly round: Round } | undefined;
  const addCosts = ({ total }: Round): void => {
    const { removed, round } = last!;
    const costsAlone = credibleCosts(round);
    const sumOf = (experts: readonly number[], costOf: (expert: number) => number) =>
      experts.reduce((sum, expert) => sum + costOf(expert), 0);
    const correction = sumOf(removed.flat(), (expert) => costsAlone[expert]! - round.costs[expert]!);
    const jointCost = Math.max(0, total - round.total + correction);
    const single = removed.map((experts) => sumOf(experts, (expert) => Math.max(0, costsAlone[expert]!)));
    const sumOfSingle = sum(single);
    for (const cost of single) {
      highest = Math.max(highest, sumOfSingle > 0 ? (jointCost * cost) / sumOfSingle : jointCost / single.length);
      costs.push(highest);
    }
  };
  const steps = expertCount / groupCount;
  const least = Math.ceil(leastExperts / groupCount);
  const atOnce = Math.ceil(steps / ROUNDS);
  while (remainingCount / groupCount > least) {
    const round = await measureRound(request, router, remaining);
    if (last !== undefined) addCosts(round);
    const values = row.isRemeasured || first === undefined ? row.score(round) : first;
    first ??= values;
    const ranked = Array.from({ length: groupCount }, (_, group) =>
      [...remaining.keys()]
        .filter((expert) => remaining[expert] === 1 && (groupOfExpert?.[expert] ?? 0) === group)
        .sort((a, b) => values[a]! - values[b]! || a - b),
    );
    const count = Math.min(atOnce, remainingCount / groupCount - least);
    const removed = Array.from({ length: count }, (_, step) => ranked.map((experts) => experts[step]!));
    removed.flat().forEach((expert, at) => {
      remaining[expert] = 0;
      scores[expert] = expertCount - remainingCount + at;
    });
    remainingCount -= count * groupCount;
    last = { removed, round };
  }
  if (last !== undefined) addCosts(await measureRound(request, router, remaining));
  // Experts that always remain are last in the order.
  for (const expert of remaining.keys()) if (remaining[expert] === 1) scores[expert] = expertCount;
  while (costs.length < steps) costs.push(highest);
  return { scores, costs: Float64Array.from(costs) };
}

/** Statistics of the remaining experts, and the cost of all removed ones. */
interface Round extends ExpertStatistics {
  readonly total: number;
}

async function measureRound(request: ExpertOrderRequest, router: ExpertRouter, remaining: Uint8Array): Promise<Round> {
  const { sample, expertCount, size } = request;
  const zeros = () => new Float64Array(expertCount);
  const found = { tokens: zeros(), gatedNorms: zeros(), norms: zeros(), squares: zeros(), costs: zeros() };
  let [sum, tokenCount] = [0, 0];
  await runRouted(request, router, remaining, ({ token, routed, outputs }) => {
    const dense = sample.outputs.subarray(token * size, (token + 1) * size);
    const change = squaredChange(outputs, routed, dense);
    tokenCount += 1;
    sum += change;
    routed.experts.forEach((expert, rank) => {
      const square = outputs.squares[outputs.experts.indexOf(expert)]!;
      const norm = Math.sqrt(square);
      found.tokens[expert]! += 1;
      found.gatedNorms[expert]! += routed.routingWeights[rank]! * norm;
      found.norms[expert]! += norm;
      found.squares[expert]! += square;
      const without = routed.without?.[rank];
      if (without !== undefined) found.costs[expert]! += squaredChange(outputs, without, dense) - change;
    });
  });
  const scale = tokenCount > 0 ? 2 / tokenCount : 0;
  const total = scale * sum;
  if (!Number.isFinite(total)) throw new NumericalError('the output of the experts is NaN or infinite');
  return { ...found, costs: found.costs.map((cost) => scale * cost), total };
}

/** Squared distance of experts' weighted sum from the dense result. */
function squaredChange({ experts, weighted }: TokenOutputs, route: Route, dense: Float32Array): number {
  const size = dense.length;
  const rows = route.experts.map((expert) => experts.indexOf(expert) * size);
  let sum = 0;
  for (let at = 0; at < size; at += 1) {
    let value = -dense[at]!;
    for (let rank = 0; rank < rows.length; rank += 1)
      value += route.routingWeights[rank]! * weighted[rows[rank]! + at]!;
    sum += value * value;
  }
  return sum;
}

/** Outputs of some experts for one token. */
interface TokenOutputs {
  readonly experts: readonly number[];
  /** `[experts, size]` */
  readonly weighted: Float32Array;
  readonly squares: Float32Array;
}

interface ProbedToken {
  readonly token: number;
  readonly routed: RoutedToken;
  readonly outputs: TokenOutputs;
}

/** Runs the experts that tokens are routed to, and those without each of these; by default for all tokens of the sample. */
async function runRouted(
  { sample, probe, size, onRun }: ExpertOrderRequest,
  router: ExpertRouter,
  remaining: Uint8Array,
  onToken: (found: ProbedToken) => void,
  tokenCount = sample.tokenCount,
): Promise<void> {
  for (let start = 0; start < tokenCount; start += ROWS) {
    const tokens = Array.from({ length: Math.min(ROWS, tokenCount - start) }, (_, at) => start + at);
    const routes = await router.route(tokens, remaining);
    const experts = routes.map((routed) => [
      ...new Set([...routed.experts, ...(routed.without ?? []).flatMap((route) => route.experts)]),
    ]);
    const outputs = await probe.run(sample.inputs.subarray(start * size, (start + tokens.length) * size), experts);
    let row = 0;
    tokens.forEach((token, at) => {
      const end = row + experts[at]!.length;
      const weighted = outputs.weighted.subarray(row * size, end * size);
      const squares = outputs.squares.subarray(row, end);
      onToken({ token, routed: routes[at]!, outputs: { experts: experts[at]!, weighted, squares } });
      row = end;
    });
    onRun?.();
  }
}

/** Tokens on which routers are compared with the mixture. */
const MATCH_TOKENS = 64;

/** Finds the router that reproduces the mixture's result. @throws UnsupportedModelError */
export async function findRouter(request: ExpertOrderRequest): Promise<ExpertRouter> {
  const { sample, expertCount, size, routers } = request;
  const all = new Uint8Array(expertCount).fill(1);
  const tokenCount = Math.min(MATCH_TOKENS, sample.tokenCount);
  const found: { readonly router: ExpertRouter; readonly error: number }[] = [];
  for (const router of routers) {
    let [error, squares, counted] = [0, 0, 0];
    const compare = ({ token, routed, outputs }: ProbedToken) => {
      const dense = sample.outputs.subarray(token * size, (token + 1) * size);
      const change = squaredChange(outputs, routed, dense);
      const square = dense.reduce((sum, value) => sum + value * value, 0);
      // The runtime chose the other of two experts with the same score.
      if (routed.isTied && change > MATCH_TOLERANCE * square) return;
      error += change;
      squares += square;
      counted += 1;
    };
    await runRouted(request, router, all, compare, tokenCount);
    if (!Number.isFinite(error)) throw new NumericalError('the output of the experts is NaN or infinite');
    if (counted > 0 && error <= MATCH_TOLERANCE * squares) found.push({ router, error });
  }
  const [best] = found.sort((a, b) => a.error - b.error);
  if (best === undefined)
    throw new UnsupportedModelError(
      'the runtime combines the outputs of experts in an unknown way, so that experts cannot be removed; exclude them by modules',
    );
  return best.router;
}
