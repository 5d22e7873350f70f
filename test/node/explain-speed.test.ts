import type { SpeedVerdict } from '../../src/evaluation/speed.js';
import { explainSpeed, targetSpeed } from '../../src/node/explain-speed.js';

const speedup = (verdict: SpeedVerdict, ratio: number) => ({
  verdict,
  ratio,
  interval: [ratio - 0.05, ratio + 0.05] as const,
});
const comparison = (prefill: SpeedVerdict, decode: SpeedVerdict) => ({
  model: 'pruned',
  reference: 'dense',
  prefill: speedup(prefill, 1.3),
  decode: speedup(decode, 1),
  fileRatio: 0.8,
  memoryRatio: 0.9,
});

describe('explainSpeed', () => {
  it('reports how much faster a model is', () => {
    expect(explainSpeed(comparison('faster', 'same'), true)).toEqual([
      'Prefill: faster, 1.30 times as fast (95 % interval 1.25 to 1.35).',
      'Decode: no faster beyond noise, 1.00 times (95 % interval 0.95 to 1.05).',
    ]);
  });

  it('reports that a smaller model is not faster', () => {
    expect(explainSpeed(comparison('same', 'slower'), true)).toContain(
      'It is smaller (20 % less on the disk) but not faster on this machine.',
    );
  });

  it('suggests a width multiple, or reports that none would help', () => {
    const widths = { hiddenSize: 576, timings: [], advice: [] };
    expect(explainSpeed({ ...comparison('same', 'same'), widths }, true).at(-1)).toMatch(
      /another width multiple would not help/,
    );
    const advice = [{ multiple: 64, width: 1030, rounded: 1024, prefillRatio: 0.9, decodeRatio: 1.02 }];
    expect(explainSpeed({ ...comparison('same', 'same'), widths: { ...widths, advice } }, true).at(-1)).toBe(
      'FFN width 1030 is slow here: at 1024 a neuron takes 10 % less time for a prompt and 2 % more for a token. ' +
        'Try the width multiple 64 when pruning.',
    );
  });

  it('reports that a graph has no KV cache', () => {
    expect(explainSpeed(comparison('faster', 'faster'), false).at(-1)).toMatch(/no KV cache/);
  });

  it('reports the size for a target speed, or that it cannot be predicted', () => {
    const target = { faster: 1.5, prefillBytes: 80e6, decodeBytes: undefined };
    expect(explainSpeed({ ...comparison('faster', 'same'), target }, true).at(-1)).toBe(
      "Predicted: prefill is 1.5 times as fast at 80.0 MB. Request it by 'shrink --allow neurons,heads --target-size', " +
        'and measure again.',
    );
    expect(explainSpeed({ ...comparison('same', 'same'), target: { faster: 2 } }, true).at(-1)).toMatch(
      /cannot be predicted: compare a model that is smaller and faster/,
    );
  });
});

describe('targetSpeed', () => {
  const bytes = { own: 80, reference: 100 };

  it('is on the line of time against bytes', () => {
    // The time of a token is 3 + 0.07 for each MB: 10 and 8.6 for the two models, 6.67 at the target.
    const speeds = { prefill: speedup('faster', 10 / 8.6), decode: speedup('same', 1) };
    const { prefillBytes, decodeBytes } = targetSpeed(1.5, speeds, { own: 80e6, reference: 100e6 });
    expect(prefillBytes! / 1e6).toBeCloseTo((10 / 1.5 - 3) / 0.07, 5);
    expect(decodeBytes).toBeUndefined();
  });

  it('is undefined if no size reaches the speed, and for a larger model', () => {
    const speeds = { prefill: speedup('faster', 1.05), decode: speedup('faster', 1.2) };
    expect(targetSpeed(3, speeds, bytes).prefillBytes).toBeUndefined();
    expect(targetSpeed(1.1, speeds, { own: 101, reference: 100 }).decodeBytes).toBeUndefined();
  });
});
