import { openNeuronCostMeter } from '../../src/activations/expert-neurons.js';
import { createRandom } from '../../src/linalg/random.js';
import { orderNeurons } from '../../src/prune/measure-dense/order-neurons.js';
import { testEngine } from '../support/engine.js';

const [EXPERTS, NEURONS, SIZE, TOKENS] = [2, 16, 3, 30];
const random = createRandom(5);
const draw = (length: number) => Float32Array.from({ length }, () => random() * 2 - 1);

/** By expert: activations of its neurons, its second linear layer, and its routing weights. */
const made = Array.from({ length: EXPERTS }, () => draw(TOKENS * NEURONS));
const seconds = Array.from({ length: EXPERTS }, () => draw(NEURONS * SIZE));
const shares = Array.from({ length: EXPERTS }, () => draw(TOKENS).map(Math.abs));
const metric = draw(SIZE * SIZE);
/** The first half of the tokens goes to expert 0, the others to both. */
const expertsOf = (token: number): number[] => (token < TOKENS / 2 ? [0] : [0, 1]);

/** Twice the mean squared change, in the metric, of removing neurons of an expert. */
function cost(expert: number, removed: readonly number[]): number {
  let sum = 0;
  for (let token = 0; token < TOKENS; token += 1) {
    if (!expertsOf(token).includes(expert)) continue;
    const change = new Float64Array(SIZE);
    for (const neuron of removed)
      for (let channel = 0; channel < SIZE; channel += 1)
        change[channel]! +=
          shares[expert]![token]! *
          made[expert]![token * NEURONS + neuron]! *
          seconds[expert]![neuron * SIZE + channel]!;
    for (let column = 0; column < SIZE; column += 1) {
      const inMetric = change.reduce((total, value, row) => total + value * metric[row * SIZE + column]!, 0);
      sum += inMetric ** 2;
    }
  }
  return (2 * sum) / TOKENS;
}

async function order(
  unitSize: number,
  more: { readonly allExperts?: boolean; readonly experts?: typeof expertsOf } = {},
) {
  const { experts: goesTo = expertsOf, allExperts } = more;
  const costMeter = await openNeuronCostMeter({ engine: testEngine, neuronCount: NEURONS, size: SIZE, metric });
  try {
    return await orderNeurons({
      costMeter,
      expertCount: EXPERTS,
      size: 1,
      allExperts,
      neurons: { unitCount: NEURONS / unitSize, unitSize, parametersPerUnit: 1 },
      // A row is the number of its token.
      sample: { tokenCount: TOKENS, inputs: Float32Array.from({ length: TOKENS }, (_, token) => token) },
      router: {
        route: async (tokens) =>
          tokens.map((token) => ({
            experts: goesTo(token),
            routingWeights: goesTo(token).map((expert) => shares[expert]![token]!),
          })),
      },
      probe: {
        run: async (rows, lists) =>
          Float32Array.from(
            lists.flatMap((experts, row) =>
              experts.flatMap((expert) => [
                ...made[expert]!.subarray(rows[row]! * NEURONS, (rows[row]! + 1) * NEURONS),
              ]),
            ),
          ),
        readSecondLinear: async (expert) => seconds[expert]!,
      },
    });
  } finally {
    await costMeter.release();
  }
}

it.each([1, 2])('measures the cost of the units of a round together, in units of %d', async (unitSize) => {
  const { scores, costs } = await order(unitSize);
  const unitCount = NEURONS / unitSize;
  const neuronsOf = (units: readonly number[]) =>
    units.flatMap((unit) => Array.from({ length: unitSize }, (_, at) => unit * unitSize + at));
  for (let expert = 0; expert < EXPERTS; expert += 1) {
    const own = scores.subarray(expert * unitCount, (expert + 1) * unitCount);
    const leaving = Array.from(own.keys()).sort((a, b) => own[a]! - own[b]!);
    expect([...own].sort((a, b) => a - b)).toEqual(Array.from({ length: unitCount }, (_, at) => at));
    const atOnce = Math.ceil(unitCount / 8);
    const prices = costs.subarray(expert * unitCount, (expert + 1) * unitCount);
    const round = leaving.slice(0, atOnce);
    const together = cost(expert, neuronsOf(round));
    expect(prices.subarray(0, atOnce).reduce((sum, price) => sum + price, 0)).toBeCloseTo(together, 4);
    // None of the rest would have been cheaper after these.
    const rises = leaving.slice(atOnce).map((unit) => cost(expert, neuronsOf([...round, unit])) - together);
    if (unitSize === 1) expect(Math.min(...rises.slice(0, atOnce))).toBeCloseTo(Math.min(...rises), 4);
    for (let at = 1; at < unitCount; at += 1) expect(prices[at]).toBeGreaterThanOrEqual(prices[at - 1]!);
    const all = Array.from({ length: unitCount }, (_, unit) => unit);
    expect(prices.reduce((sum, price) => sum + price, 0)).toBeGreaterThan(cost(expert, neuronsOf(all)) - 1e-4);
  }
});

it('orders the neurons of an expert without tokens only if experts run on all tokens', async () => {
  const experts = () => [0];
  const byIndex = Array.from({ length: NEURONS }, (_, at) => at);
  const routed = await order(1, { experts });
  expect([...routed.scores.subarray(NEURONS)]).toEqual(byIndex);
  expect(Math.max(...routed.costs.subarray(NEURONS))).toBe(0);
  const all = await order(1, { experts, allExperts: true });
  expect(all.scores.subarray(0, NEURONS)).toEqual(routed.scores.subarray(0, NEURONS));
  expect(all.costs.subarray(0, NEURONS)).toEqual(routed.costs.subarray(0, NEURONS));
  const own = all.scores.subarray(NEURONS);
  expect([...own].sort((a, b) => a - b)).toEqual(byIndex);
  // All tokens have equal weights, together that of one token of expert 0.
  const weight = Math.sqrt(shares[0]!.reduce((sum, share) => sum + share ** 2, 0) / TOKENS / TOKENS);
  const costOf = (neuron: number) => {
    let sum = 0;
    for (let token = 0; token < TOKENS; token += 1)
      for (let column = 0; column < SIZE; column += 1) {
        const second = seconds[1]!.subarray(neuron * SIZE, (neuron + 1) * SIZE);
        const inMetric = second.reduce((total, value, row) => total + value * metric[row * SIZE + column]!, 0);
        sum += (weight * made[1]![token * NEURONS + neuron]! * inMetric) ** 2;
      }
    return (2 * sum) / TOKENS;
  };
  const costs = byIndex.map(costOf);
  const first = byIndex.filter((neuron) => own[neuron]! < 2);
  expect(first).toEqual(
    byIndex
      .toSorted((a, b) => costs[a]! - costs[b]!)
      .slice(0, 2)
      .sort((a, b) => a - b),
  );
  expect(all.costs[NEURONS]).toBeGreaterThan(0);
});
