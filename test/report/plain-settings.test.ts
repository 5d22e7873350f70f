import type { CalibrationProvenance } from '../../src/calibration/calibration-set.js';
import { resolveCalibration, resolveOptions } from '../../src/options.js';
import { calibrationSettings, plainSettings } from '../../src/report/plain-settings.js';

it('has every option in a form that JSON can represent', () => {
  const settings = plainSettings(
    resolveOptions({
      sparsity: 0.3,
      method: 'o-fang',
      modules: 'ffn',
      grouping: { clusterBalance: Number.POSITIVE_INFINITY },
      blockSparsity: { 1: 0.2, 2: { ffn: 0.1 } },
      signal: new AbortController().signal,
      onProgress: () => undefined,
    }),
  );
  expect(JSON.parse(JSON.stringify(settings))).toEqual(settings);
  expect(settings).toMatchObject({
    method: 'o-fang',
    sparsity: 0.3,
    modules: 'ffn',
    allocation: 'adaptive',
    grouping: { contextCount: 7, clusterBalance: 'Infinity' },
    blockSparsity: { 1: 0.2, 2: { ffn: 0.1 } },
    seed: 0,
  });
  for (const name of ['adapter', 'signal', 'onProgress', 'methodName']) expect(settings).not.toHaveProperty(name);
});

it('omits options without effect, and the calibration text', () => {
  const calibration = resolveCalibration({ source: { text: 'a secret' }, windowCount: 4 });
  const provenance = { windowLength: 8, selection: 'first' } as CalibrationProvenance;
  const options = resolveOptions({ sparsity: 0.3, method: 'flap', modules: 'ffn' });
  const settings = plainSettings(options, { calibration: calibrationSettings(calibration, provenance) });
  expect(settings).toEqual({
    sparsity: 0.3,
    modules: 'ffn',
    allocation: 'uniform',
    widthMultiple: 1,
    shots: 1,
    blockSparsity: {},
    method: 'flap',
    metric: 'output',
    fluctuation: 'WIFV',
    inputSteps: 0,
    grouping: false,
    seed: 0,
    calibration: { source: 'text', windowCount: 4, windowLength: 8, selection: 'first', generate: false },
  });
});
