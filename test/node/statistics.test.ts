import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createCalibrationSet } from '../../src/calibration/calibration-set.js';
import { createTokenizer } from '../../src/calibration/tokenizer.js';
import { type ObserveRequest, observe } from '../../src/node/observe-folder.js';
import { type PruneRequest, prune } from '../../src/node/prune-folder.js';
import { loadModel } from '../../src/onnx/load-model.js';
import { bytesSource, createMemoryFolder } from '../../src/onnx/memory-folder.js';
import { meanLoss, TINY_LLAMA } from '../support/tiny-llama.js';
import { listFiles, useTemporaryFolder } from './temporary-folder.js';

const folder = useTemporaryFolder();
const at = (path: string) => join(folder(), path);

const CALIBRATION = { windowCount: 4, windowLength: 64, generate: false };
const look = (request: Partial<ObserveRequest> = {}) =>
  observe({ model: TINY_LLAMA, out: at('stats'), calibration: CALIBRATION, ...request });
/** Sees what any method reads. */
const ALL = { method: 'o-fang', metric: 'loss' } as const;
const recall = (request: Partial<PruneRequest> = {}) =>
  prune({ model: TINY_LLAMA, sparsity: 0.3, statistics: at('stats'), certify: false, out: at('out'), ...request });

/** What runs the model on calibration tokens. */
const RUNNING = ['calibrate', 'generate', 'contexts', 'measure', 'backward', 'advance'];

const readModel = (path: string) => readFile(join(path, 'onnx/model.onnx'));

/** Mean loss on the windows of a text, in nats. */
async function lossOf(path: string): Promise<number> {
  const model = await loadModel(bytesSource('model.onnx', await readModel(path)), createMemoryFolder('none'));
  const tokenizer = createTokenizer(
    JSON.parse(await readFile(join(TINY_LLAMA, 'tokenizer.json'), 'utf8')),
    JSON.parse(await readFile(join(TINY_LLAMA, 'tokenizer_config.json'), 'utf8')),
  );
  const { windows } = await createCalibrationSet({ windowCount: 4, windowLength: 64, tokenizer });
  return meanLoss(model, windows);
}

describe('saved statistics', () => {
  it('prune by every method without a run over tokens, far better than by lot', async () => {
    const seen = await look(ALL);
    expect(await listFiles(at('stats'))).toEqual(['statistics.json', 'statistics.safetensors']);
    expect(seen).toMatchObject({ sums: 'gram', metric: 'loss', grouped: true, moduleCount: 12 });
    await prune({ model: TINY_LLAMA, out: at('random'), sparsity: 0.3, method: 'random', certify: false });
    const [dense, random] = [await lossOf(TINY_LLAMA), await lossOf(at('random'))];
    for (const method of ['flap', 'obc', 'f-fang', 'o-fang', 'auto']) {
      const report = await recall({ method, out: at(method) });
      expect(report.timings.filter(({ stage }) => RUNNING.includes(stage))).toEqual([]);
      expect(report.calibration).toEqual(seen.calibration);
      expect(report.modules.some(({ contexts }) => contexts !== undefined)).toBe(method.endsWith('fang'));
      expect(report.sparsity.achieved).toBeCloseTo(0.3, 1);
      const loss = await lossOf(at(method));
      expect(loss).toBeLessThan((dense + random) / 2);
    }
  }, 240_000);
});
