import { projectFeatures } from '../../src/activations/project-features.js';
import { sumByContext } from '../../src/activations/sum-by-context.js';
import { assignContexts } from '../../src/grouping/refine-centers.js';
import { pickRows } from '../../src/linalg/matrix-block.js';
import type { Pca } from '../../src/linalg/pca.js';
import { createRandom, drawNormal } from '../../src/linalg/random.js';
import { createBlockRunner, makeBatches } from '../../src/runtime/block-runner.js';
import { createMemoryStore } from '../../src/runtime/tensor-store.js';
import { testEngine } from '../support/engine.js';
import { loadShortLlama } from '../support/short-llama.js';
import { relativeGap, someWindows } from '../support/tiny-llama.js';

const WINDOW = 20;
const CONTEXTS = 5;

it('finds the nearest centre of each token, and sums channels by window and context', async () => {
  const { model, analysed } = await loadShortLlama();
  const { detected, facts, tokenInput } = analysed;
  const module = detected.layout.modules.find(({ kind }) => kind === 'ffn')!;
  const runner = createBlockRunner({
    engine: testEngine,
    model,
    cuts: detected.partition.cuts,
    facts,
    tokenInput,
    batches: makeBatches(someWindows(5, WINDOW), 2),
    states: createMemoryStore(),
  });
  while (runner.segment < module.segment) await runner.advance();
  const size = facts.first.get(module.input)!.dims.at(-1)!;
  const random = createRandom(3);
  const draw = (length: number) => Float64Array.from({ length }, () => drawNormal(random));
  const pca: Pca = { size, componentCount: 4, mean: draw(size), components: draw(4 * size), variances: draw(4) };
  const points = await projectFeatures(runner, { value: module.input, pca });
  const centers = pickRows(points, 4, Int32Array.of(3, 19, 40, 66, 90));
  const expected = assignContexts(points, centers, 4);
  const { input: value, inputCount: channelCount } = module.output;
  const sums = new Float64Array(5 * CONTEXTS * channelCount);
  let token = 0;
  for await (const { values } of runner.observe({ fetches: [value] })) {
    for (const [at, entry] of (values[value]!.data as Float32Array).entries()) {
      const of = token + Math.floor(at / channelCount);
      sums[(Math.floor(of / WINDOW) * CONTEXTS + expected[of]!) * channelCount + (at % channelCount)]! += entry;
    }
    token += values[value]!.data.length / channelCount;
  }
  const request = { feature: module.input, pca, centers, contextCount: CONTEXTS, value, channelCount };
  const { contextOfToken, sumsOfWindow } = await sumByContext(runner, request);
  expect(new Set(expected).size).toBe(CONTEXTS);
  expect(contextOfToken).toEqual(expected);
  expect(sumsOfWindow).toHaveLength(5);
  expect(
    relativeGap(
      sumsOfWindow.flatMap((part) => [...part]),
      [...sums],
    ),
  ).toBeLessThan(1e-6);
});
