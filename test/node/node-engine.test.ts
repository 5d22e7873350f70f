import { execFile } from 'node:child_process';
import { resolve } from 'node:path';
import { promisify } from 'node:util';
import { createNodeEngine } from '../../src/node/node-engine.js';
import { describe as describeModel, generateText, perplexity, prune } from '../../src/node.js';
import type { Engine } from '../../src/runtime/engine.js';
import { buildPackage } from '../support/built-package.js';
import { testEngine } from '../support/engine.js';
import { SHORT_LLAMA } from '../support/short-llama.js';

/** A custom engine that counts the graphs it loads, and has no `loadFile`. */
function countingEngine(): Engine & { readonly loads: number } {
  const counting = {
    name: 'counting',
    loads: 0,
    load(...request: Parameters<Engine['load']>) {
      counting.loads++;
      return testEngine.load(...request);
    },
  };
  return counting;
}

const PRUNING = {
  model: SHORT_LLAMA,
  dryRun: true,
  report: false,
  sparsity: 0.3,
  method: 'flap',
  calibration: { windowCount: 2, windowLength: 16 },
} as const;

let defaultRun: Awaited<ReturnType<typeof prune>>;
beforeAll(async () => {
  defaultRun = await prune(PRUNING);
});

describe('a custom engine', () => {
  it('is used to prune, and named in the report', async () => {
    const engine = countingEngine();
    const { environment } = await prune({ ...PRUNING, engine });
    expect(engine.loads).toBeGreaterThan(0);
    expect(environment).toMatchObject({ executionProvider: 'counting' });
    expect(environment).not.toHaveProperty('onnxRuntime');
  });

  it('loads models from memory if it cannot load files', async () => {
    const engine = countingEngine();
    const request = {
      model: SHORT_LLAMA,
      content: 'The city of the king. '.repeat(20),
      windowCount: 1,
      windowLength: 32,
    };
    const measured = await perplexity({ ...request, engine });
    expect(engine.loads).toBeGreaterThan(0);
    expect(measured.perplexity).toBeCloseTo((await perplexity(request)).perplexity, 4);
  });

  it.each([{ executionProvider: 'cpu' }, { threads: 2 }])('is refused together with %j', async (choice) => {
    await expect(describeModel({ model: SHORT_LLAMA, engine: testEngine, ...choice })).rejects.toMatchObject({
      code: 'ERR_OPTION',
      message: expect.stringContaining('both given'),
    });
  });
});

describe('threads', () => {
  it('are eight by default, or as many as given, and reported', async () => {
    expect(defaultRun.environment).toMatchObject({ threads: 8 });
    expect((await prune({ ...PRUNING, threads: 3 })).environment).toMatchObject({ threads: 3 });
    expect(await createNodeEngine({ threads: 0 })).not.toHaveProperty('threads');
  });

  it.each([-1, 1.5, Number.NaN, 1e9])('cannot be %d', async (threads) => {
    await expect(createNodeEngine({ threads })).rejects.toThrow(/^threads is .* expected an integer/);
  });

  it('cannot be set for WebAssembly', async () => {
    await expect(createNodeEngine({ executionProvider: 'wasm', threads: 2 })).rejects.toThrow('numThreads');
  });
});

describe('onnxruntime-web in Node.js', () => {
  it('prunes on the execution provider "wasm"', async () => {
    const { environment, parameters } = await prune({ ...PRUNING, executionProvider: 'wasm' });
    expect(environment).toMatchObject({ executionProvider: 'wasm' });
    expect(parameters).toEqual(defaultRun.parameters);
  });

  it('generates the same text as onnxruntime-node', async () => {
    const request = { model: SHORT_LLAMA, prompt: 'The city of', newTokens: 4 };
    expect(await generateText({ ...request, executionProvider: 'wasm' })).toEqual(await generateText(request));
  });

  it('replaces onnxruntime-node if it is not installed, and warns how to install it', async () => {
    const preload = ['--liftoff-only', '--require', resolve('test/support/without-native.cjs')];
    const call = [...preload, 'examples/02-describe-a-model.js'];
    const { stdout, stderr } = await promisify(execFile)(process.execPath, call, { cwd: await buildPackage() });
    expect(stdout).toMatch(/parameters can be pruned/);
    expect(stderr.match(/FANG_PRUNE_WASM/g)).toHaveLength(1);
    expect(stderr).toContain('ONNXRUNTIME_NODE_INSTALL=skip');
  });
});

it('lists the execution providers of this build if the given one is unknown', async () => {
  await expect(createNodeEngine({ executionProvider: 'abacus' })).rejects.toMatchObject({
    code: 'ERR_OPTION',
    message: expect.stringMatching(/"abacus" is unknown; this build has cpu, .*wasm/),
  });
});
