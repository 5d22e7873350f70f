import { UnsupportedModelError } from '../../src/errors.js';
import { logitRows } from '../../src/evaluation/decoder.js';
import { createTokenScorer } from '../../src/evaluation/token-scorer.js';
import { createRandom } from '../../src/linalg/random.js';
import { testEngine } from '../support/engine.js';

describe('createTokenScorer', () => {
  it('computes the cross-entropy of more rows than fit in one run', async () => {
    // 20000 logits a row: 419 rows are scored at once, so 450 take two runs.
    const [rowCount, width] = [450, 20_000];
    const random = createRandom(1);
    const data = Float32Array.from({ length: rowCount * width }, () => 10 * random() - 20);
    const targets = Int32Array.from({ length: rowCount }, (_, row) => (row * 37) % width);
    const scorer = await createTokenScorer(testEngine, 'float32');
    const scores = await scorer.score({ type: 'float32', dims: [rowCount, width], data }, targets);
    for (const row of [0, 418, 419, 449]) {
      const logits = data.subarray(row * width, (row + 1) * width);
      const expected =
        Math.log(logits.reduce((sum, logit) => sum + Math.exp(logit + 20), 0)) - 20 - logits[targets[row]!]!;
      expect(Math.abs(scores[row]! - expected)).toBeLessThan(2e-5);
    }
    await scorer.release();
  });

  it('reads half precision', async () => {
    const scorer = await createTokenScorer(testEngine, 'float16');
    // 0, 1, -2 and 0.5 as half-precision bits.
    const logits = { type: 'float16', dims: [2, 2], data: Uint16Array.of(0x0000, 0x3c00, 0xc000, 0x3800) } as const;
    expect(await scorer.widen(logits)).toEqual(Float32Array.of(0, 1, -2, 0.5));
    const [first, second] = await scorer.score(logits, Int32Array.of(0, 1));
    expect(first).toBeCloseTo(Math.log(1 + Math.E), 6);
    expect(second).toBeCloseTo(Math.log(1 + Math.exp(-2.5)), 6);
    await scorer.release();
  });

  it('refuses logits it cannot read', async () => {
    await expect(createTokenScorer(testEngine, 'int8')).rejects.toThrow(UnsupportedModelError);
  });
});

describe('logitRows', () => {
  it('returns a view of the tensor', () => {
    const data = Float32Array.of(1, 2, 3, 4, 5, 6);
    const rows = logitRows({ type: 'float32', dims: [3, 2], data }, 1, 3);
    expect(rows.dims).toEqual([2, 2]);
    expect(rows.data).toEqual(Float32Array.of(3, 4, 5, 6));
    expect(rows.data.buffer).toBe(data.buffer);
  });
});
