import { join } from 'node:path';
import { OptionError } from '../../src/errors.js';
import { startWorker } from '../../src/node/bench-process.js';
import { importPackage } from '../support/built-package.js';
import { copyShortLlama, FUSED_LLAMA } from '../support/short-llama.js';
import { useTemporaryFolder } from '../support/temporary-folder.js';

/** The built package, whose processes load quickly. */
const { benchmark, OptionError: BuiltOptionError, prune } = await importPackage();

const folder = useTemporaryFolder();
const at = (path: string) => join(folder(), path);

describe('benchmark', () => {
  it('measures models side by side, each in its own process', async () => {
    await prune({
      model: FUSED_LLAMA,
      out: at('pruned'),
      sparsity: 0.4,
      method: 'magnitude',
      modules: 'ffn',
      certify: false,
      evaluation: false,
    });
    const stages: string[] = [];
    const report = await benchmark({
      models: [FUSED_LLAMA, at('pruned')],
      promptLength: 16,
      newTokens: 3,
      rounds: 2,
      faster: 1.2,
      onProgress: ({ done, total }) => stages.push(`${done}/${total}`),
    });
    expect(report).toMatchObject({ promptLength: 16, newTokens: 3, rounds: 2 });
    expect(stages).toEqual(Array.from({ length: 7 }, (_, done) => `${done}/6`));
    expect(report.models.map(({ model }) => model)).toEqual([FUSED_LLAMA, at('pruned')]);
    for (const { loadMs, prefillTokensPerSecond, decodeTokensPerSecond, peakMemoryBytes, hasCache } of report.models) {
      expect(loadMs.values).toHaveLength(2);
      expect(prefillTokensPerSecond.values).toHaveLength(2);
      expect(decodeTokensPerSecond.values).toHaveLength(2);
      expect(Math.min(...prefillTokensPerSecond.values, ...decodeTokensPerSecond.values)).toBeGreaterThan(0);
      // A process with Node.js, ONNX Runtime and 12 MB of weights; not this one, which has far more.
      expect(peakMemoryBytes).toBeGreaterThan(40e6);
      expect(peakMemoryBytes).toBeLessThan(600e6);
      expect(hasCache).toBe(true);
    }
    const [dense, pruned] = report.models;
    expect(pruned!.fileBytes).toBeLessThan(0.8 * dense!.fileBytes);
    const [comparison] = report.comparisons;
    expect(comparison).toMatchObject({ model: at('pruned'), reference: FUSED_LLAMA });
    expect(comparison!.fileRatio).toBeCloseTo(pruned!.fileBytes / dense!.fileBytes, 12);
    expect(comparison!.target!.faster).toBe(1.2);
    expect(comparison!.summary.join(' ')).toMatch(/1\.2 times as fast/);
    expect(comparison!.widths!.hiddenSize).toBe(192);
    expect(comparison!.widths!.timings.every(({ prefillMs, decodeMs }) => prefillMs > 0 && decodeMs > 0)).toBe(true);
    expect(comparison!.summary.at(-1)).toMatch(/width multiple/);
  });

  it('refuses invalid requests before a model is loaded', async () => {
    await expect(benchmark({ models: [] })).rejects.toThrow(BuiltOptionError);
    await expect(benchmark({ models: [at('none')] })).rejects.toThrow(/There is no model at/);
    await expect(benchmark({ models: [FUSED_LLAMA], rounds: 1 })).rejects.toThrow(/rounds is 1/);
    await expect(benchmark({ models: [FUSED_LLAMA], faster: 1 })).rejects.toThrow(/faster is 1/);
    await expect(benchmark({ models: [FUSED_LLAMA], faster: 2 })).rejects.toThrow(/faster has no effect for one model/);
    await expect(benchmark({ models: [FUSED_LLAMA], newTokens: 0 })).rejects.toThrow(/newTokens is 0/);
    await expect(benchmark({ models: [FUSED_LLAMA], promptLength: 500, newTokens: 32 })).rejects.toThrow(
      /532 together, but a model reads at most 512/,
    );
  });

  it('stops when it is aborted', async () => {
    const control = new AbortController();
    const onProgress = () => void setTimeout(() => control.abort(), 50);
    const running = benchmark({ models: [FUSED_LLAMA], onProgress, signal: control.signal });
    await expect(running).rejects.toThrow(/abort/i);
  });

  it('rejects with what the promise of an async listener rejects with', async () => {
    const error = new Error('the log is full');
    const measuring = benchmark({
      models: [FUSED_LLAMA],
      promptLength: 4,
      newTokens: 1,
      rounds: 2,
      probe: false,
      onProgress: (() => Promise.reject(error)) as () => void,
    });
    await expect(measuring).rejects.toBe(error);
  });
});

describe('startWorker', () => {
  it('throws the errors of its process', async () => {
    const broken = await copyShortLlama(at('broken'), (proto) => {
      proto.graph!.node[0]!.opType = 'NoSuchOperator';
    });
    const worker = startWorker();
    try {
      const open = (model: string) => worker.send('open', { model, executionProvider: undefined });
      await expect(open(at('none'))).rejects.toThrow(OptionError);
      await expect(open(broken)).rejects.toMatchObject({ code: 'ERR_ENGINE' });
    } finally {
      await worker.stop();
    }
    await expect(worker.send('memory', {})).rejects.toThrow(/a benchmark process died/);
  });
});
