import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { describe as describeFolder, quantize } from '../../src/node.js';
import { SHORT_LLAMA } from '../support/short-llama.js';
import { useTemporaryFolder } from '../support/temporary-folder.js';

const folder = useTemporaryFolder();

it('describes the weights of a quantised model as its file has them', async () => {
  const out = join(folder(), 'q4');
  const plain = { rounding: 'nearest', report: false, certify: false, evaluation: false } as const;
  await quantize({ ...plain, model: SHORT_LLAMA, out, dtype: 'q4' });
  const { format } = await describeFolder({ model: out });
  const { size } = await stat(join(out, 'onnx/model_q4.onnx'));
  expect(format.dataType).toBe('uint8');
  expect(format.bytes).toBeLessThanOrEqual(size);
  expect(format.bytes).toBeGreaterThan(0.9 * size);
}, 60_000);
