/**
 * Measures the CPU seconds of the algebra of `auto` for one wide FFN, independent of the number of windows, on random statistics:
 * the weight in the metric, the Hessian's factor, the order of removal, the repair of the output projection (30 % removed) and the curvature of
 * three steps of input repair. --only selects parts by name, such as "order". For figures of one core: taskset -c 0.
 */
import ndarray from 'ndarray';
import type { ImportanceProblem } from '../../src/compensation/adapter.js';
import { createInputCurvature } from '../../src/compensation/input-step.js';
import { compensateByLeastSquares } from '../../src/compensation/least-squares.js';
import { buildHessian, factoriseHessian } from '../../src/importance/hessian.js';
import { orderByObc } from '../../src/importance/obc-order.js';
import { weightInMetric } from '../../src/importance/weight-in-metric.js';
import { multiplySymmetric } from '../../src/linalg/multiply-symmetric.js';
import { createRandom } from '../../src/linalg/random.js';
import { createNodeEngine } from '../../src/node/node-engine.js';
import { createEngineMultiply } from '../../src/runtime/engine-multiply.js';
import { readArguments } from '../read-arguments.js';

const { values } = readArguments(
  'npx tsx scripts/research/measure-algebra.ts [--channels 4096] [--outputs 2048] [--inputs 2048] [--only PART]...',
  {
    channels: { type: 'string', default: '4096' },
    outputs: { type: 'string', default: '2048' },
    inputs: { type: 'string', default: '2048' },
    only: { type: 'string', multiple: true },
  },
);
const [channels, outputs, inputs] = [Number(values.channels), Number(values.outputs), Number(values.inputs)];
const { multiply, release } = createEngineMultiply(await createNodeEngine());
const random = createRandom(0);
const draw = (count: number) => Float64Array.from({ length: count }, () => random() - 0.5);
const range = (count: number) => Int32Array.from({ length: count }, (_, at) => at);
const keep = range(channels).filter((channel) => channel % 10 < 7);
const weight = ndarray(Float32Array.from(draw(channels * outputs)), [outputs, channels]);

const PARTS: Readonly<Record<string, () => Promise<() => Promise<unknown>>>> = {
  async metric() {
    const curvature = await drawGram(outputs);
    return () => weightInMetric(weight, curvature, multiply);
  },
  async factor() {
    const problem = await drawProblem();
    return () => factoriseHessian(problem, { dampening: 0.1 });
  },
  async order() {
    const problem = await drawProblem();
    const hessian = await factoriseHessian(problem, { dampening: 0.1 });
    return () => orderByObc(problem, hessian, 32);
  },
  async repair() {
    const problem = await drawProblem();
    return () => compensateByLeastSquares(problem, buildHessian(problem, { dampening: 0.1 }), keep);
  },
  async inputs() {
    const neuronCount = keep.length;
    const [inputGram, rate] = [await drawGram(inputs), await drawGram(neuronCount)];
    const [columns, gradient] = [neuronCount * outputs, inputs * neuronCount].map(
      (count) => new Float32Array(draw(count)),
    );
    return async () => {
      const product = { size: neuronCount, inner: outputs, multiply };
      const outputGram = await multiplySymmetric(columns!, product);
      const factors = { inputCount: inputs, neuronCount, inputGram, rates: [rate, rate], outputGram };
      const curvature = await createInputCurvature({ ...factors, dampening: 1, multiply });
      for (let step = 0; step < 3; step += 1) for (const map of [0, 1]) await curvature.precondition(gradient!, map);
    };
  },
};

for (const [name, prepare] of Object.entries(PARTS)) {
  if (values.only !== undefined && !values.only.includes(name)) continue;
  const action = await prepare();
  const before = process.cpuUsage();
  await action();
  const { user, system } = process.cpuUsage(before);
  console.log(`${name.padEnd(8)}${((user + system) / 1e6).toFixed(2)} s`);
}
await release();

/** Gram matrix of random tokens of channels of different size. */
async function drawGram(size: number): Promise<Float64Array> {
  const tokenCount = Math.min(4096, Math.ceil(1.5 * size));
  const scales = draw(size).map((value) => Math.exp(3 * value));
  const rows = draw(size * tokenCount).map((value, at) => value * scales[Math.floor(at / tokenCount)]!);
  const gram = await multiplySymmetric(rows, { size, inner: tokenCount, multiply });
  return gram.map((value) => value / tokenCount);
}

async function drawProblem(): Promise<ImportanceProblem> {
  const gram = await drawGram(channels);
  const moments = { mean: new Float64Array(channels), variance: new Float64Array(channels) };
  return {
    weight,
    statistics: { tokenCount: 1, ...moments, gram },
    unitOfChannel: range(channels),
    unitCount: channels,
    random,
    multiply,
  };
}
