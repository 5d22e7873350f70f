import type { FfnExample } from '../../src/activations/ffn-examples.js';
import { createInputMeter, type InputMeter } from '../../src/activations/measure-inputs.js';
import type { PrunableModule } from '../../src/architecture/layout.js';
import { encodeFloats, readFloat32 } from '../../src/onnx/float-encoding.js';
import { bytesHandle } from '../../src/onnx/tensor-handle.js';
import { findInputLinears, type InputLinear } from '../../src/removal/input-linears.js';
import { readLinearWeight } from '../../src/removal/repair-linear.js';
import { indexRunGraph } from '../../src/runtime/block-runner.js';
import { compileStage } from '../../src/runtime/compile-stage.js';
import { testEngine } from '../support/engine.js';
import { loadFusedLlama } from '../support/short-llama.js';
import type { Loaded } from '../support/tiny-llama.js';

const TOKENS = 12;
let loaded: Loaded;
let module: PrunableModule;
let linears: InputLinear[];
let examples: FfnExample[];
let meter: InputMeter;

const meterOf = async (seen: readonly FfnExample[], sample = seen) => {
  const { model, analysed } = loaded;
  const { facts } = analysed;
  const given = { engine: testEngine, model, facts, module, linears, source: module.input, examples: seen, sample };
  return (await createInputMeter(given))!;
};

/** Deterministic values in the range of a normalised hidden state. */
const wave = (length: number, scale: number, shift: number) =>
  Float32Array.from({ length }, (_, at) => scale * Math.sin(at * 1.7 + shift + (at % 13)));

beforeEach(async () => {
  loaded = await loadFusedLlama();
  const { detected } = loaded.analysed;
  module = detected.layout.modules.find(({ kind, block }) => kind === 'ffn' && block === 2)!;
  const keep = Int32Array.from({ length: module.unitCount }, (_, unit) => unit);
  linears = findInputLinears(loaded.model, { detected, module, keep });
  const { outputCount } = module.output;
  examples = [0, 1].map((shift) => ({
    source: { type: 'float32' as const, dims: [1, TOKENS, outputCount], data: wave(TOKENS * outputCount, 1, shift) },
    target: {
      type: 'float32' as const,
      dims: [1, TOKENS, outputCount],
      data: wave(TOKENS * outputCount, 0.3, shift + 9),
    },
  }));
  meter = await meterOf(examples);
});

/** Adds `amount` times a direction, `[in, neurons]`, to a linear layer's weight. */
async function shift({ weight, outputAxis }: InputLinear, direction: Float32Array, amount: number): Promise<void> {
  expect(outputAxis).toBe(1);
  const handle = loaded.model.weights.get(weight)!;
  const values = (await readFloat32(handle)).map((value, at) => value + amount * direction[at]!);
  loaded.model.weights.set(weight, bytesHandle(handle, encodeFloats(handle.dataType, values)));
}

it('measures the error, and gradients equal to central differences', async () => {
  expect(linears).toHaveLength(2);
  const { error, gradients } = await meter.measure();
  expect(await meter.measureError()).toBeCloseTo(error, 6);
  for (const [at, linear] of linears.entries()) {
    const direction = Float32Array.from(wave(gradients[at]!.length, 0.02, at));
    const predicted = direction.reduce((sum, value, i) => sum + value * gradients[at]![i]!, 0);
    await shift(linear, direction, 0.05);
    const above = await meter.measureError();
    await shift(linear, direction, -0.1);
    const below = await meter.measureError();
    await shift(linear, direction, 0.05);
    expect((above - below) / 0.1 / predicted).toBeCloseTo(1, 2);
  }
});

it('measures the factors of the curvature', async () => {
  const { inputGram, rates, ...inputs } = await meter.measureWithFactors();
  expect(inputs).toEqual(await meter.measure());
  const width = Math.sqrt(inputGram.length);
  const tokens = examples.flatMap(({ source }) =>
    Array.from({ length: TOKENS }, (_, token) => source.data.slice(token * width, (token + 1) * width) as Float32Array),
  );
  const mean = (of: (token: Float32Array) => number) =>
    tokens.reduce((sum, token) => sum + of(token), 0) / tokens.length;
  for (const [i, j] of [
    [0, 0],
    [3, 7],
    [7, 3],
    [width - 1, 2],
  ] as const)
    expect(inputGram[i * width + j]!).toBeCloseTo(
      mean((x) => x[i]! * x[j]!),
      5,
    );
  // h = silu(gate) up, neuron by neuron.
  const size = module.unitCount;
  const weights = await Promise.all(linears.map(({ weight }) => readFloat32(loaded.model.weights.get(weight)!)));
  const given = (x: Float32Array, linear: number, neuron: number) =>
    x.reduce((sum, value, row) => sum + value * weights[linear]![row * size + neuron]!, 0);
  const sigmoid = (value: number) => 1 / (1 + Math.exp(-value));
  const byGate = (x: Float32Array, neuron: number) => {
    const gate = given(x, 0, neuron);
    return given(x, 1, neuron) * sigmoid(gate) * (1 + gate * (1 - sigmoid(gate)));
  };
  const byUp = (x: Float32Array, neuron: number) => given(x, 0, neuron) * sigmoid(given(x, 0, neuron));
  for (const [linear, rate] of [byGate, byUp].entries()) {
    for (const [i, j] of [
      [0, 0],
      [5, 9],
      [9, 5],
    ] as const) {
      const expected = mean((x) => rate(x, i) * rate(x, j));
      expect(Math.abs(rates[linear]![i * size + j]! / expected - 1)).toBeLessThan(1e-3);
    }
  }
});

it('predicts how far a small step moves the output', async () => {
  const { model, analysed } = loaded;
  const index = indexRunGraph(model);
  const isAvailable = (value: string) => value === module.input;
  const fetches = [module.output.result];
  const { session } = await compileStage({
    engine: testEngine,
    model,
    index,
    isAvailable,
    fetches,
    facts: analysed.facts,
  });
  const own = await Promise.all(
    examples.map(async ({ source }) => ({
      source,
      target: (await session.run({ [module.input]: source }))[module.output.result]!,
    })),
  );
  const still = await meterOf(own);
  expect(await still.measureError()).toBeLessThan(1e-10);
  const output = await readLinearWeight(model, module.output);
  const [outputCount = 0, neuronCount = 0] = output.shape;
  const columns = Float32Array.from({ length: neuronCount * outputCount }, (_, at) =>
    output.get(at % outputCount, Math.floor(at / outputCount)),
  );
  const steps = linears.map((_, at) => Float32Array.from(wave(outputCount * neuronCount, 0.02, at)));
  const change = await still.measureChange(steps, columns);
  const errorAt = async (amount: number) => {
    for (const [at, linear] of linears.entries()) await shift(linear, steps[at]!, amount);
    const error = await still.measureError();
    for (const [at, linear] of linears.entries()) await shift(linear, steps[at]!, -amount);
    return error;
  };
  // Where nothing is missing, half the squared distance is half of `change` times the square of the amount; odd terms cancel.
  expect(((await errorAt(0.1)) + (await errorAt(-0.1))) / 0.01 / change).toBeCloseTo(1, 2);
  const one = await (await meterOf(own, [own[0]!])).measureChange(steps, columns);
  expect(one).not.toBe(change);
  expect(Math.abs(one / change - 1)).toBeLessThan(0.5);
});
