import { largestBytes, mixturesAt, type SizeProblem } from '../../src/prune/mixtures.js';
import { matchBytes } from '../../src/prune/size-problem.js';
import { gridOf, sizeProblem } from '../support/size-problem.js';

/** A mixture of four experts with a router in eight bits, whose experts take 4,000 bytes by the first estimate. */
function withExperts(): SizeProblem {
  const [module] = sizeProblem(1).modules;
  const experts = { ...module!, otherBytes: 4000, kind: 'experts' as const, stepCount: 4, parametersPerStep: 250 };
  const order = { scores: new Float64Array(4), costs: Float64Array.of(1, 1, 1, 1) };
  const sizes = { minimumKept: 1, parameterCount: 1000, order };
  const router = { name: 'router', isTable: false, module: 0, forms: [{ grid: gridOf(8), bytes: 40, cost: 0 }] };
  return { weights: [router], modules: [{ ...experts, ...sizes, index: 0 }], fixedBytes: 0, evenHeads: true };
}

// In four bits with scales, an expert takes 150 bytes and its router 10; the graph and all else 500.
const bytesOf = async ({ steps }: { readonly steps: ReadonlyMap<number, number> }) =>
  500 + (4 - (steps.get(0) ?? 0)) * 160;

it('reads the bytes of experts from files of any form', async () => {
  const problem = await matchBytes(withExperts(), { grids: new Map([['router', gridOf(8)]]) }, bytesOf);
  expect(problem.modules[0]!.otherBytes).toBeCloseTo(600, 9);
  expect(largestBytes(problem)).toBeCloseTo(1140, 9);
  for (const remaining of [1, 2, 3]) {
    const [mixture] = mixturesAt(problem, 500 + remaining * 160);
    expect([...mixture!.steps]).toEqual([[0, 4 - remaining]]);
    expect(mixture!.bytes).toBeCloseTo(500 + remaining * 160, 9);
  }
});

it('scales other bytes if weights have no bits', async () => {
  const { weights, ...given } = withExperts();
  const forms = [{ bytes: 80, cost: 0 }];
  const problem = await matchBytes({ ...given, weights: [{ ...weights[0]!, forms }] }, { grids: new Map() }, bytesOf);
  expect(problem.modules[0]!.otherBytes).toBeCloseTo((3 * 160 - 0.75 * 80) / 0.75, 9);
  expect(largestBytes(problem)).toBeCloseTo(1140, 9);
});
