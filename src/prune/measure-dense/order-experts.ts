import type { ExpertProbe } from '../../activations/expert-probe.js';
import { MIXINGS, type MixingName, type RankedExperts, rankExperts, sharesOf } from '../../activations/mix-experts.js';
import { NumericalError, UnsupportedModelError } from '../../errors.js';
import type { ExpertScoreRow, ExpertStatistics } from '../../importance/expert-scores.js';
import type { RemovalOrderOfModule } from './order-units.js';
import type { RoutingSample } from './sample-routing.js';

export interface ExpertOrderRequest {
  readonly sample: RoutingSample;
  readonly probe: Pick<ExpertProbe, 'run'>;
  readonly expertCount: number;
  /** Experts that each token goes to; so many stay. */
  readonly expertsPerToken: number;
  readonly size: number;
  /** Chooses which leave next. */
  readonly row: ExpertScoreRow;
  /** Is called between two runs of the probe. */
  onRun?(): void;
}

/** Rounds in which all experts would leave: the experts that stay are measured anew between them. */
const ROUNDS = 8;

/** Rows that go through the probe together, at most. */
const ROWS = 4096;

/** Squared distance from the node's own result that a mixing may have, as a fraction of that: half precision and packed weights round. */
const FITTING = 1e-3;

/**
 * Orders a mixture's experts by what their removal costs. When one leaves, the router sends its tokens to the next in its order,
 * and the shares of the others change; so removal goes in rounds, and what each leaves is measured before the next. The costs of a
 * round add up to what its experts were measured to cost together, divided among them in proportion to what each costs alone.
 *
 * A cost is twice the mean square of the change of the mixture's result, as the metric sees it, which is what the scores of OBC
 * are for neurons and heads.
 *
 * @throws UnsupportedModelError where the runtime mixes experts in another way than any of `MIXINGS`.
 */
export async function orderExperts(request: ExpertOrderRequest): Promise<RemovalOrderOfModule> {
  const { expertCount, expertsPerToken, row } = request;
  const mixing = await findMixing(request);
  const stays = new Uint8Array(expertCount).fill(1);
  const scores = new Float64Array(expertCount);
  const costs: number[] = [];
  let staying = expertCount;
  let highest = 0;
  let last: { readonly leaving: readonly number[]; readonly round: Round } | undefined;
  const price = ({ total }: Round): void => {
    const { leaving, round } = last!;
    const together = Math.max(0, total - round.total);
    const alone = leaving.map((expert) => Math.max(0, round.costs[expert]!));
    const apart = alone.reduce((sum, cost) => sum + cost, 0);
    for (const cost of alone) {
      highest = Math.max(highest, apart > 0 ? (together * cost) / apart : together / alone.length);
      costs.push(highest);
    }
  };
  const step = Math.ceil(expertCount / ROUNDS);
  while (staying > expertsPerToken) {
    const round = await measureRound(request, mixing, stays);
    if (last !== undefined) price(round);
    const values = row.score(round);
    const ranked = [...stays.keys()]
      .filter((expert) => stays[expert] === 1)
      .sort((a, b) => values[a]! - values[b]! || a - b);
    const leaving = ranked.slice(0, Math.min(step, staying - expertsPerToken));
    leaving.forEach((expert, at) => {
      stays[expert] = 0;
      scores[expert] = expertCount - staying + at;
    });
    staying -= leaving.length;
    last = { leaving, round };
  }
  if (last !== undefined) price(await measureRound(request, mixing, stays));
  // Those that stay in any case come last.
  for (const expert of stays.keys()) {
    if (stays[expert] === 0) continue;
    scores[expert] = costs.length;
    costs.push(highest);
  }
  return { scores, costs: Float64Array.from(costs) };
}

/** What the experts that stay carry, and what it costs that the others are gone. */
interface Round extends ExpertStatistics {
  readonly total: number;
}

async function measureRound(request: ExpertOrderRequest, mixing: MixingName, stays: Uint8Array): Promise<Round> {
  const { sample, expertCount, expertsPerToken: count, size } = request;
  const zeros = () => new Float64Array(expertCount);
  const found = { tokens: zeros(), gatedNorms: zeros(), norms: zeros(), squares: zeros(), costs: zeros() };
  let [sum, tokenCount] = [0, 0];
  await runRanked(request, stays, count + 1, ({ token, ranked, weighted, squares }) => {
    const dense = sample.outputs.subarray(token * size, (token + 1) * size);
    const shares = sharesOf(ranked, mixing, { count });
    const change = squaredChange(weighted, shares, dense);
    tokenCount += 1;
    sum += change;
    ranked.experts.slice(0, count).forEach((expert, rank) => {
      const norm = Math.sqrt(squares[rank]!);
      found.tokens[expert]! += 1;
      found.gatedNorms[expert]! += shares[rank]! * norm;
      found.norms[expert]! += norm;
      found.squares[expert]! += squares[rank]!;
      if (ranked.experts.length <= count) return;
      const without = sharesOf(ranked, mixing, { count, without: rank });
      found.costs[expert]! += squaredChange(weighted, without, dense) - change;
    });
  });
  const scale = tokenCount > 0 ? 2 / tokenCount : 0;
  const total = scale * sum;
  if (!Number.isFinite(total)) throw new NumericalError('what the experts make is NaN or infinite');
  return { ...found, costs: found.costs.map((cost) => scale * cost), total };
}

/** Squared length of a mix of rows minus the dense result. @param weighted `[ranks, size]` */
function squaredChange(weighted: Float32Array, shares: Float64Array, dense: Float32Array): number {
  const size = dense.length;
  let sum = 0;
  for (let at = 0; at < size; at += 1) {
    let value = -dense[at]!;
    for (let rank = 0; rank < shares.length; rank += 1) value += shares[rank]! * weighted[rank * size + at]!;
    sum += value * value;
  }
  return sum;
}

/** One token with its best experts and what they make of it. */
interface RankedToken {
  readonly token: number;
  readonly ranked: RankedExperts;
  /** `[ranks, size]` */
  readonly weighted: Float32Array;
  readonly squares: Float32Array;
}

/** Runs the best experts of some tokens, by default all of the sample. */
async function runRanked(
  { sample, probe, expertCount, size, onRun }: ExpertOrderRequest,
  stays: Uint8Array,
  count: number,
  take: (found: RankedToken) => void,
  tokenCount = sample.tokenCount,
): Promise<void> {
  const atOnce = Math.max(1, Math.floor(ROWS / count));
  for (let start = 0; start < tokenCount; start += atOnce) {
    const tokens = Array.from({ length: Math.min(atOnce, tokenCount - start) }, (_, at) => start + at);
    const ranked = tokens.map((token) =>
      rankExperts(sample.scores.subarray(token * expertCount, (token + 1) * expertCount), stays, count),
    );
    const experts = Int32Array.from(ranked.flatMap((found) => found.experts));
    const rows =
      sample.type === 'float16' ? new Uint16Array(experts.length * size) : new Float32Array(experts.length * size);
    let row = 0;
    tokens.forEach((token, at) => {
      const input = sample.inputs.subarray(token * size, (token + 1) * size);
      for (const _ of ranked[at]!.experts) {
        rows.set(input, row * size);
        row += 1;
      }
    });
    const made = await probe.run(rows, experts);
    row = 0;
    tokens.forEach((token, at) => {
      const end = row + ranked[at]!.experts.length;
      const weighted = made.weighted.subarray(row * size, end * size);
      take({ token, ranked: ranked[at]!, weighted, squares: made.squares.subarray(row, end) });
      row = end;
    });
    onRun?.();
  }
}

/** Tokens that a mixing is found by. */
const FITTED = 64;

/** How the runtime mixes what experts make, found by doing it again. @throws UnsupportedModelError */
async function findMixing(request: ExpertOrderRequest): Promise<MixingName> {
  const { sample, expertCount, expertsPerToken: count, size } = request;
  const names = Object.keys(MIXINGS) as MixingName[];
  const errors = names.map(() => 0);
  let squares = 0;
  const everyone = new Uint8Array(expertCount).fill(1);
  await runRanked(
    request,
    everyone,
    count,
    ({ token, ranked, weighted }) => {
      const dense = sample.outputs.subarray(token * size, (token + 1) * size);
      for (const value of dense) squares += value * value;
      names.forEach((name, at) => {
        errors[at]! += squaredChange(weighted, sharesOf(ranked, name, { count }), dense);
      });
    },
    Math.min(FITTED, sample.tokenCount),
  );
  const best = errors.indexOf(Math.min(...errors));
  const name = names[best];
  if (name === undefined || !(errors[best]! <= FITTING * squares))
    throw new UnsupportedModelError(
      'the runtime mixes what its experts make in a way that is not known here, so that experts cannot be removed; leave them out by modules',
    );
  return name;
}
