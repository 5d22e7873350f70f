import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { prune } from '../../src/node.js';
import type { PruneReport } from '../../src/report/report-schema.js';
import { SHORT_LLAMA } from '../support/short-llama.js';
import { useTemporaryFolder } from '../support/temporary-folder.js';

const folder = useTemporaryFolder();

it('reports tokens that activate kept and removed units, with the same model bytes', async () => {
  const run = (out: string, quoteText: boolean) =>
    prune({
      ...{
        model: SHORT_LLAMA,
        out: join(folder(), out),
        sparsity: 0.3,
        method: 'flap',
        quoteText,
        certify: false,
        evaluation: false,
      },
      calibration: { windowCount: 8, windowLength: 64 },
    });
  const [quoting, plain] = [await run('quoting', true), await run('plain', false)];
  const described = (report: PruneReport) => report.modules.flatMap(({ topTokens }) => topTokens ?? []);
  expect(described(plain)).toEqual([]);
  expect(described(quoting)).toHaveLength(4);
  for (const { keptShare, kept, removed } of described(quoting)) {
    // FLAP keeps the units with the largest activations.
    expect(keptShare).toBeGreaterThan(0.5);
    expect(keptShare).toBeLessThan(1);
    expect(kept.tokenCount + removed.tokenCount).toBe(8 * 64);
    expect(Math.min(kept.tokenCount, removed.tokenCount)).toBeGreaterThan(0);
    expect(removed.examples!.length).toBeGreaterThan(0);
  }
  const bytesOf = (out: string) => readFile(join(folder(), out, 'onnx/model.onnx'));
  expect(Buffer.compare(await bytesOf('quoting'), await bytesOf('plain'))).toBe(0);
});
