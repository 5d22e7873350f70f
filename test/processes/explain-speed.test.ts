import type { SpeedVerdict } from '../../src/evaluation/speed.js';
import { explainSpeed } from '../../src/processes/explain-speed.js';

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
  it('says how much faster', () => {
    expect(explainSpeed(comparison('faster', 'same'), true)).toEqual([
      'Reading a prompt: faster, 1.30 times as fast (95 % interval 1.25 to 1.35).',
      'Writing: no faster beyond noise, 1.00 times (95 % interval 0.95 to 1.05).',
    ]);
  });

  it('says that smaller is not faster', () => {
    expect(explainSpeed(comparison('same', 'slower'), true)).toContain(
      'It is smaller (20 % less on the disk) but not faster on this machine.',
    );
  });

  it('says which width would be, or that none would', () => {
    const widths = { hiddenSize: 576, timings: [], advice: [] };
    expect(explainSpeed({ ...comparison('same', 'same'), widths }, true).at(-1)).toMatch(
      /another width multiple would not be faster/,
    );
    const advice = [{ multiple: 64, width: 1030, rounded: 1024, prefillRatio: 0.9, decodeRatio: 1.02 }];
    expect(explainSpeed({ ...comparison('same', 'same'), widths: { ...widths, advice } }, true).at(-1)).toBe(
      'FFN width 1030 is slow here: at 1024 a neuron takes 10 % less time for a prompt and 2 % more for a token. ' +
        'Try the width multiple 64 when pruning.',
    );
  });

  it('says that a graph has no cache', () => {
    expect(explainSpeed(comparison('faster', 'faster'), false).at(-1)).toMatch(/no KV cache/);
  });
});
