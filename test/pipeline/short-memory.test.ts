import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { nodePlatform } from '../../src/node/node-platform.js';
import { runPrune } from '../../src/pipeline/run-prune.js';
import { testEngine } from '../support/engine.js';

const MODEL = 'test/fixtures/exporters/llama-transformersjs-fp16slim';

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'fang-prune-memory-'));
});
afterAll(() => rm(folder, { recursive: true }));

const prune = (memoryBytes: number, out: string) =>
  runPrune(
    { ...nodePlatform, memoryBytes },
    {
      model: MODEL,
      out: join(folder, out),
      sparsity: 0.3,
      report: false,
      engine: testEngine,
      calibration: { windowCount: 4, windowLength: 32 },
    },
  );

describe('a machine with too little memory for the whole model', () => {
  it('prunes and checks it block by block, with remarks on what is left out', async () => {
    const report = await prune(2e4, 'small');
    expect(report.certificate).toMatchObject({ opened: false, passed: true });
    // Each run reads all weights, so that few windows are compared.
    expect(report.quality!.protocol.windowCount).toBe(3);
    expect(report.quality!.perplexity.pruned).toBeGreaterThan(1);
    const about = /opening the whole model takes about [\d.]+ KB of memory, and this machine has 20(\.0)? KB/;
    expect(report.remarks.filter((remark) => about.test(remark)).map((remark) => remark.split(':')[0])).toEqual([
      expect.stringContaining('calibrated on text only'),
      'checked block by block, but not opened as a whole',
    ]);
    expect(await readdir(join(folder, 'small'))).toContain('onnx');
  });
});
