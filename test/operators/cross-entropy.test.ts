import { OptionError } from '../../src/errors.js';
import { createRandom } from '../../src/linalg/random.js';
import { appendCrossEntropy, type CrossEntropyOptions } from '../../src/operators/cross-entropy.js';
import { runGraph } from '../support/load-graph.js';

const [BATCH, LENGTH, VOCABULARY] = [2, 4, 7] as const;
const DIMS = [BATCH, LENGTH, VOCABULARY];
const TOKENS = [3, 1, 6, 0, 2, 2, 5, 3];
const random = createRandom(5);
const LOGITS = Float64Array.from({ length: BATCH * LENGTH * VOCABULARY }, () => 8 * random() - 4);

/** A direct computation of the summed loss of all predictions, and of its gradient. */
function expected(scale: number): { loss: number; gradient: number[] } {
  let loss = 0;
  const gradient = new Array<number>(LOGITS.length).fill(0);
  for (let row = 0; row < BATCH * LENGTH; row++) {
    if (row % LENGTH === LENGTH - 1) continue;
    const logits = [...LOGITS.subarray(row * VOCABULARY, (row + 1) * VOCABULARY)];
    const total = logits.reduce((sum, logit) => sum + Math.exp(logit), 0);
    const target = TOKENS[row + 1] ?? 0;
    loss -= scale * Math.log(Math.exp(logits[target] ?? 0) / total);
    logits.forEach((logit, at) => {
      gradient[row * VOCABULARY + at] = scale * (Math.exp(logit) / total - (at === target ? 1 : 0));
    });
  }
  return { loss, gradient };
}

async function run(options: Partial<CrossEntropyOptions>) {
  const parts = appendCrossEntropy({
    logits: { value: 'logits', fact: { dims: DIMS, dataType: 11 } },
    tokens: 'tokens',
    opset: 17,
    ...options,
  });
  const results = await runGraph({
    ...parts,
    opset: options.opset ?? 17,
    inputs: {
      logits: { type: 'float64', dims: DIMS, data: LOGITS },
      tokens: { type: 'int64', dims: [BATCH, LENGTH], data: BigInt64Array.from(TOKENS, BigInt) },
    },
    outputs: [parts.loss, parts.cotangent],
  });
  const numbers = (name: string) => Array.from(results[name]?.data as Float64Array);
  return { loss: numbers(parts.loss)[0], gradient: numbers(parts.cotangent) };
}

describe('appendCrossEntropy', () => {
  it.each([
    ['the mean over all predictions', {}, 1 / (BATCH * (LENGTH - 1))],
    ['the plain sum', { scale: 1 }, 1],
    ['the mean, in an old opset', { opset: 11 }, 1 / (BATCH * (LENGTH - 1))],
    ['the mean, where reductions take axes as input', { opset: 18 }, 1 / (BATCH * (LENGTH - 1))],
  ])('computes %s and its gradient', async (_, options, scale) => {
    const { loss, gradient } = await run(options);
    const want = expected(scale);
    expect(loss).toBeCloseTo(want.loss, 10);
    gradient.forEach((value, at) => {
      expect(value).toBeCloseTo(want.gradient[at] ?? Number.NaN, 10);
    });
  });

  it('stays finite where softmax underflows', async () => {
    const dims = [1, 2, 2];
    const parts = appendCrossEntropy({
      logits: { value: 'logits', fact: { dims, dataType: 1 } },
      tokens: 'tokens',
      opset: 17,
    });
    const results = await runGraph({
      ...parts,
      opset: 17,
      inputs: {
        logits: { type: 'float32', dims, data: Float32Array.of(0, 300, 0, 0) },
        tokens: { type: 'int64', dims: [1, 2], data: BigInt64Array.of(0n, 0n) },
      },
      outputs: [parts.loss, parts.cotangent],
    });
    expect(results[parts.loss]?.data[0]).toBe(300);
    expect(Array.from(results[parts.cotangent]?.data as Float32Array)).toEqual([-1, 1, 0, 0]);
  });

  describe.each([
    ['drawn in the graph', 17],
    ['drawn by random numbers that are fed', 22],
  ])('with softened predictions, %s', (_, opset) => {
    const TEMPERATURE = 2;
    const ROWS = 2000;
    const logits = Float32Array.of(1.5, -0.5, 0, 3);
    const weights = Array.from(logits, (logit) => Math.exp(logit / TEMPERATURE));
    const softmax = weights.map((weight) => weight / weights.reduce((sum, one) => sum + one));

    async function draw(seed: number, given = logits) {
      const dims = [ROWS, 2, 4];
      const parts = appendCrossEntropy({
        logits: { value: 'logits', fact: { dims, dataType: 1 } },
        tokens: 'tokens',
        opset,
        scale: 1,
        softened: { temperature: TEMPERATURE, seed },
      });
      const uniform = createRandom(seed);
      const draws = Float32Array.from({ length: 2 * ROWS }, uniform);
      const results = await runGraph({
        ...parts,
        opset,
        inputs: {
          ...(parts.draws !== undefined && { [parts.draws]: { type: 'float32', dims: [ROWS, 2, 1], data: draws } }),
          logits: { type: 'float32', dims, data: Float32Array.from({ length: 8 * ROWS }, (_, at) => given[at % 4]!) },
          tokens: { type: 'int64', dims: [ROWS, 2], data: new BigInt64Array(2 * ROWS) },
        },
        outputs: [parts.loss, parts.cotangent],
      });
      const gradient = results[parts.cotangent]!.data as Float32Array;
      const predictions = Array.from({ length: ROWS }, (_, row) => [...gradient.subarray(8 * row, 8 * row + 4)]);
      return { loss: results[parts.loss]!.data[0] as number, predictions, gradient };
    }
    const tokenOf = (gradient: readonly number[]) => gradient.findIndex((value) => value < 0);

    it('computes the gradient of the softened logits at the drawn tokens', async () => {
      const { loss, predictions } = await draw(3);
      const errors = predictions.flatMap((gradient) => {
        const token = tokenOf(gradient);
        return Array.from(gradient, (value, at) =>
          Math.abs(value - (softmax[at]! - (at === token ? 1 : 0)) / TEMPERATURE),
        );
      });
      expect(Math.max(...errors)).toBeLessThan(5e-7);
      const drawn = predictions.map(tokenOf);
      expect(loss / -drawn.reduce((sum, token) => sum + Math.log(softmax[token]!), 0)).toBeCloseTo(1, 5);
    });

    it('draws tokens with the softened probabilities', async () => {
      const { predictions } = await draw(3);
      const counts = [0, 0, 0, 0];
      for (const gradient of predictions) counts[tokenOf(gradient)]! += 1;
      // Five standard errors.
      counts.forEach((count, token) => {
        const share = softmax[token]!;
        expect(Math.abs(count / ROWS - share)).toBeLessThan(5 * Math.sqrt((share * (1 - share)) / ROWS));
      });
    });

    it('draws the same tokens from the same seed', async () => {
      const [first, second, other] = [await draw(3), await draw(3), await draw(4)];
      expect(second.gradient).toEqual(first.gradient);
      expect(other.gradient).not.toEqual(first.gradient);
    });

    it('returns a NaN gradient for NaN logits', async () => {
      const { gradient, predictions } = await draw(3, logits.with(2, Number.NaN));
      expect(predictions.flat().every(Number.isNaN)).toBe(true);
      expect(gradient).toHaveLength(8 * ROWS);
    });

    it.each([0, -1, Number.NaN])('refuses a temperature of %d', (temperature) => {
      const options = { logits: { value: 'logits', fact: { dims: DIMS, dataType: 1 } }, tokens: 'tokens', opset: 17 };
      expect(() => appendCrossEntropy({ ...options, softened: { temperature, seed: 0 } })).toThrow(OptionError);
    });
  });

  it.each([
    ['one token', [2, 1, 7], 1],
    ['no batch', [4, 7], 1],
    ['integer logits', [2, 4, 7], 7],
  ])('refuses %s', (_, dims, dataType) => {
    const logits = { value: 'logits', fact: { dims, dataType } };
    expect(() => appendCrossEntropy({ logits, tokens: 'tokens', opset: 17 })).toThrow(OptionError);
  });
});
