import { formatDtypes } from '../../src/cli/format-dtypes.js';
import type { HealingReport } from '../../src/healing/heal-model.js';

it('states for each dtype what healing after rounding changed', () => {
  const healing: HealingReport = {
    windowCount: 64,
    heldOutCount: 4,
    windowLength: 512,
    trained: 'all' as const,
    trainedCount: 10,
    windowsPerStep: 4,
    passCount: 1,
    learningRate: 5e-4,
    halvings: 0,
    keptStep: 16,
    divergence: { before: 1.734, after: 1.259 },
    curve: [
      { step: 0, heldOut: 1.734 },
      { step: 16, train: 1.3, heldOut: 1.259 },
    ],
  };
  const shared = {
    file: 'onnx/model.onnx',
    bytes: 5,
    parts: { ffn: 1, attention: 1, embedding: 1, head: 1, other: 1 },
  };
  const lines = formatDtypes({
    dtypes: [
      { ...shared, dtype: 'q8' },
      { ...shared, dtype: 'q2', healing },
    ],
  });
  expect(lines.slice(1)).toEqual([
    'q2: healed after rounding on 64 windows of 512 tokens: the divergence from the dense model went from 1.7340 to 1.2590 ' +
      'nats per token on held-out windows (step 16 of 16).\n',
  ]);
});
