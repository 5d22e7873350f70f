import { routeByScores } from '../../src/activations/expert-router.js';
import { rankExperts, routingWeightsOf } from '../../src/activations/mix-experts.js';
import { UnsupportedModelError } from '../../src/errors.js';
import { EXPERT_SCORES, type ExpertScoreName } from '../../src/importance/expert-scores.js';
import { createRandom } from '../../src/linalg/random.js';
import { type ExpertOrderRequest, orderExperts } from '../../src/prune/measure-dense/order-experts.js';

// Enough tokens for every expert, so that its measured cost is credible.
const [EXPERTS, CHOSEN, SIZE, TOKENS] = [5, 2, 3, 160];
const random = createRandom(7);
const draw = (length: number) => Float32Array.from({ length }, () => random() * 2 - 1);

const inputs = draw(TOKENS * SIZE);
const scores = draw(TOKENS * EXPERTS).map((score) => 3 * score);
/** Each expert multiplies a row by its own matrix. */
const matrices = Array.from({ length: EXPERTS }, () => draw(SIZE * SIZE));
const make = (expert: number, x: Float32Array): number[] =>
  Array.from({ length: SIZE }, (_, row) =>
    x.reduce((sum, value, at) => sum + matrices[expert]![row * SIZE + at]! * value, 0),
  );

const rowOf = (list: Float32Array, token: number, size: number) => list.subarray(token * size, (token + 1) * size);

/** A direct computation of a token's routing weights among the remaining experts. */
function shares(token: number, remaining: readonly number[]): Map<number, number> {
  const row = rowOf(scores, token, EXPERTS);
  const chosen = [...remaining].sort((a, b) => row[b]! - row[a]!).slice(0, CHOSEN);
  const sum = chosen.reduce((total, expert) => total + Math.exp(row[expert]!), 0);
  return new Map(chosen.map((expert) => [expert, Math.exp(row[expert]!) / sum]));
}

function mix(token: number, remaining: readonly number[]): number[] {
  const made = new Array<number>(SIZE).fill(0);
  for (const [expert, share] of shares(token, remaining))
    make(expert, rowOf(inputs, token, SIZE)).forEach((value, at) => {
      made[at]! += share * value;
    });
  return made;
}

const all = Array.from({ length: EXPERTS }, (_, expert) => expert);
const without = (...removed: number[]) => all.filter((expert) => !removed.includes(expert));

/** Twice the mean squared change of the result. */
function cost(remaining: readonly number[]): number {
  let sum = 0;
  for (let token = 0; token < TOKENS; token += 1) {
    const dense = mix(token, all);
    sum += mix(token, remaining).reduce((total, value, at) => total + (value - dense[at]!) ** 2, 0);
  }
  return (2 * sum) / TOKENS;
}

function request(name: ExpertScoreName = 'removal'): ExpertOrderRequest {
  const outputs = new Float32Array(TOKENS * SIZE);
  for (let token = 0; token < TOKENS; token += 1) outputs.set(mix(token, all), token * SIZE);
  return {
    sample: { type: 'float32', tokenCount: TOKENS, inputs, outputs },
    probe: {
      run: async (rows, lists) => {
        const made = lists.flatMap((experts, row) =>
          experts.map((expert) => make(expert, rowOf(rows as Float32Array, row, SIZE))),
        );
        return {
          weighted: Float32Array.from(made.flat()),
          squares: Float32Array.from(made, (row) => row.reduce((sum, value) => sum + value * value, 0)),
        };
      },
    },
    routers: (['chosen', 'all'] as const).map((mixing) =>
      routeByScores({ scores, expertCount: EXPERTS, expertsPerToken: CHOSEN }, mixing),
    ),
    expertCount: EXPERTS,
    leastExperts: CHOSEN,
    size: SIZE,
    row: EXPERT_SCORES[name],
  };
}

it('measures the cost of each removal after the previous one', async () => {
  const order = await orderExperts(request());
  const leaving = all.toSorted((a, b) => order.scores[a]! - order.scores[b]!);
  const first = all.map((expert) => cost(without(expert)));
  expect(leaving[0]).toBe(first.indexOf(Math.min(...first)));
  expect(order.costs[0]).toBeCloseTo(Math.min(...first), 5);
  const second = without(leaving[0]!).map((expert) => ({ expert, cost: cost(without(leaving[0]!, expert)) }));
  const next = second.sort((a, b) => a.cost - b.cost)[0]!;
  expect(leaving[1]).toBe(next.expert);
  expect(order.costs[1]).toBeCloseTo(Math.max(order.costs[0]!, next.cost - order.costs[0]!), 5);
  expect(order.costs).toHaveLength(EXPERTS);
  expect([...order.costs]).toEqual([...order.costs].sort((a, b) => a - b));
});

it.each(['reap', 'man', 'msan', 'frequency'] as const)(
  'removes experts in the order of %s in the whole mixture',
  async (name) => {
    const means = all.map((expert) => {
      let [sum, count] = [0, 0];
      for (let token = 0; token < TOKENS; token += 1) {
        const share = shares(token, all).get(expert);
        if (share === undefined) continue;
        const norm = Math.hypot(...make(expert, rowOf(inputs, token, SIZE)));
        sum += { reap: share * norm, man: norm, msan: norm ** 2, frequency: 0 }[name];
        count += 1;
      }
      return name === 'frequency' ? count : sum / count;
    });
    const { scores: order } = await orderExperts(request(name));
    const byScore = all.toSorted((a, b) => means[a]! - means[b]!);
    expect(all.toSorted((a, b) => order[a]! - order[b]!).slice(0, EXPERTS - CHOSEN)).toEqual(
      byScore.slice(0, EXPERTS - CHOSEN),
    );
  },
);

it('gives an expert without tokens the mean cost of a token of the others', async () => {
  // Each token goes to expert 0, 2 or 4, next to nothing of it to expert 1, and nothing at all to expert 3.
  const fixed = Float32Array.from({ length: TOKENS * EXPERTS }, (_, at) => {
    const [token, expert] = [Math.floor(at / EXPERTS), at % EXPERTS];
    if (expert === 1) return -12;
    if (expert === 3) return -50;
    return expert / 2 === token % 3 ? 0 : -15 - expert;
  });
  const routers = [routeByScores({ scores: fixed, expertCount: EXPERTS, expertsPerToken: CHOSEN }, 'chosen')];
  const outputs = new Float32Array(TOKENS * SIZE);
  const routes = await routers[0]!.route([...Array(TOKENS).keys()], new Uint8Array(EXPERTS).fill(1));
  routes.forEach(({ experts, routingWeights: own }, token) => {
    experts.forEach((expert, rank) => {
      make(expert, rowOf(inputs, token, SIZE)).forEach((value, at) => {
        outputs[token * SIZE + at]! += own[rank]! * value;
      });
    });
  });
  const given = request();
  const order = await orderExperts({ ...given, routers, sample: { ...given.sample, outputs } });
  expect(all.toSorted((a, b) => order.scores[a]! - order.scores[b]!).slice(0, 2)).toEqual([1, 3]);
  expect(order.costs[0]).toBeLessThan(1e-6);
  // The mean cost of a token of experts 0, 2 and 4, which lose about all that they make.
  expect(order.costs[1]).toBeGreaterThan(0.01 / TOKENS);
  expect(order.costs[1]).toBeLessThan(order.costs[2]! / 10);
});

it('removes one expert of every group at once', async () => {
  const groupOfExpert = Int32Array.of(0, 0, 1, 1);
  const scores = draw(TOKENS * 4);
  const given = { scores, expertCount: 4, expertsPerToken: 1 };
  const routers = [routeByScores(given, 'chosen')];
  const outputs = new Float32Array(TOKENS * SIZE);
  const routes = await routers[0]!.route([...Array(TOKENS).keys()], new Uint8Array(4).fill(1));
  routes.forEach(({ experts }, token) => {
    outputs.set(make(experts[0]!, rowOf(inputs, token, SIZE)), token * SIZE);
  });
  const { sample, ...rest } = request();
  const order = await orderExperts({
    ...rest,
    sample: { ...sample, outputs },
    routers,
    expertCount: 4,
    leastExperts: 2,
    groupOfExpert,
  });
  expect(order.costs).toHaveLength(2);
  const first = [0, 1, 2, 3].filter((expert) => order.scores[expert]! < 2);
  expect(first.map((expert) => groupOfExpert[expert])).toEqual([0, 1]);
});

it('refuses outputs that are mixed in another way', async () => {
  const given = request();
  const outputs = given.sample.outputs.map((value) => 2 * value);
  const ordering = orderExperts({ ...given, sample: { ...given.sample, outputs } });
  await expect(ordering).rejects.toThrow(UnsupportedModelError);
  await expect(ordering).rejects.toThrow(/combines the outputs of experts in an unknown way/);
});

it('accepts a differently routed token only if two experts have the same score', async () => {
  const given = request();
  const outputs = given.sample.outputs.map((value, at) => (at < SIZE ? -value : value));
  const refused = orderExperts({ ...given, sample: { ...given.sample, outputs } });
  await expect(refused).rejects.toThrow(UnsupportedModelError);
  const tied = scores.slice();
  const row = rowOf(tied, 0, EXPERTS);
  const ranked = all.toSorted((a, b) => row[b]! - row[a]!);
  row[ranked[CHOSEN]!] = row[ranked[CHOSEN - 1]!]!;
  const routers = [routeByScores({ scores: tied, expertCount: EXPERTS, expertsPerToken: CHOSEN }, 'chosen')];
  const order = await orderExperts({ ...given, routers, sample: { ...given.sample, outputs } });
  expect(order.costs).toHaveLength(EXPERTS);
});

it('gives the routing weight of a removed expert to the next one', () => {
  const ranked = rankExperts(Float32Array.of(1, 3, 2, 3, 0), Uint8Array.of(1, 1, 1, 1, 0), 3);
  expect(ranked.experts).toEqual([1, 3, 2]);
  const e = Math.exp(-1);
  expect([...routingWeightsOf(ranked, 'chosen', { count: 2, without: 0 })]).toEqual([0, 1 / (1 + e), e / (1 + e)]);
  const total = 1 + e + Math.exp(-2);
  expect(routingWeightsOf(ranked, 'all', { count: 2, without: 1 })[2]).toBeCloseTo(e / total, 12);
  // A router that scores all but the chosen experts far below them (LFM2).
  const low = rankExperts(Float32Array.of(0, -1e4, -1e4), Uint8Array.of(1, 1, 1), 3);
  for (const mixing of ['chosen', 'all'] as const)
    expect([...routingWeightsOf(low, mixing, { count: 2, without: 0 })]).toEqual([0, 0.5, 0.5]);
});
