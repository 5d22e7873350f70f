import { createCalibrationSet } from '../../src/calibration/calibration-set.js';
import {
  describe as describeModel,
  heal,
  nodePlatform,
  observe,
  plan,
  prune,
  quantize,
  STAGES,
  type Stages,
  trimVocabulary,
  withJob,
} from '../../src/node.js';
import { testEngine } from '../support/engine.js';
import { SHORT_LLAMA } from '../support/short-llama.js';

const tokens = Array.from({ length: 96 }, (_, position) => (position * 613) % 2048);

it('replaces a stage with a custom one', async () => {
  const set = await createCalibrationSet({
    source: { tokens },
    windowCount: 2,
    windowLength: 24,
    vocabularySize: 2048,
  });
  const seen: string[] = [];
  const calibrate: Stages['calibrate'] = {
    name: 'calibrate',
    async run({ remarks }, { folder, seed }) {
      seen.push(`${folder.modelFile} ${seed}`);
      remarks.push('windows of my own');
      return set;
    },
  };
  const request = { model: SHORT_LLAMA, sparsity: 0.3, method: 'flap', seed: 7, dryRun: true, report: false } as const;
  const report = await prune({ ...request, stages: { calibrate } });
  expect(seen).toEqual(['onnx/model.onnx 7']);
  expect(report.calibration).toEqual(set.provenance);
  expect(report.remarks[0]).toBe('windows of my own');
  const calibration = { source: { tokens }, windowCount: 2, windowLength: 24, generate: false };
  expect(report.modules).toEqual((await prune({ ...request, calibration })).modules);
}, 120_000);

describe('every call that opens a model', () => {
  const stages = { open: { name: 'open', run: () => Promise.reject(new Error('opened by my own')) } };
  const [model, out] = [SHORT_LLAMA, 'never-written'];
  it.each<[string, () => Promise<unknown>]>([
    ['describe', () => describeModel({ model, stages })],
    ['heal', () => heal({ dense: model, pruned: model, out, stages })],
    ['observe', () => observe({ model, out, stages })],
    ['plan', () => plan({ model, sparsity: 0.3, stages })],
    ['quantize', () => quantize({ model, out, dtype: 'q4', stages })],
    ['trimVocabulary', () => trimVocabulary({ model, out, keepLanguages: ['en'], stages })],
  ])('accepts custom stages: %s', async (_, call) => {
    await expect(call()).rejects.toThrow('opened by my own');
  });
});

it('runs onEnd callbacks in reverse order, also when a stage fails, and records times', async () => {
  const ended: string[] = [];
  const job = withJob(nodePlatform, {}, async (context) => {
    context.onEnd(async () => ended.push('first'));
    const folder = await STAGES.open.run(context, { model: SHORT_LLAMA });
    const model = await STAGES.load.run(context, folder);
    await STAGES.analyse.run(context, { model, engine: testEngine });
    context.onEnd(async () => ended.push('last'));
    throw new Error(context.timings.map(({ stage }) => stage).join());
  });
  await expect(job).rejects.toThrow('load,analyse');
  expect(ended).toEqual(['last', 'first']);
});

it.each([
  ['callibrate', STAGES.calibrate, /stages.callibrate replaces no stage; there are open, load/],
  ['calibrate', undefined, /stages.calibrate has no run/],
])('refuses %s: %s', async (name, stage, message) => {
  const request = { model: SHORT_LLAMA, sparsity: 0.3, dryRun: true, stages: { [name]: stage } as Partial<Stages> };
  await expect(prune(request)).rejects.toThrow(message);
});

it('runs the other onEnd callbacks if one fails', async () => {
  const ended: string[] = [];
  const job = withJob(nodePlatform, {}, async ({ onEnd }) => {
    for (const name of ['first', 'second', 'third'])
      onEnd(async () => {
        ended.push(name);
        if (name === 'second') throw new Error('second is stuck');
      });
  });
  await expect(job).rejects.toThrow('second is stuck');
  expect(ended).toEqual(['third', 'second', 'first']);
});
