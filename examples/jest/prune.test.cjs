/** Prunes in a Jest test. The default environment suffices, since ONNX Runtime is loaded outside its sandbox. */
const { existsSync } = require('node:fs');
const { prune } = require('fang-prune');

test('removes parameters, and writes the model', async () => {
  const { parameters } = await prune({
    model: 'examples/models/tiny-llama',
    out: 'smaller-by-jest',
    force: true,
    sparsity: 0.3,
    method: 'flap',
    calibration: { windowCount: 4, windowLength: 64 },
  });
  expect(parameters.after).toBeLessThan(parameters.before);
  expect(existsSync('smaller-by-jest/onnx/model.onnx')).toBe(true);
}, 60_000);
