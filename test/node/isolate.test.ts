import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { setTimeout } from 'node:timers/promises';
import { processScheduling } from '../../src/node/processor-time.js';
import { remedyOf } from '../../src/node/run-isolated.js';
import { startHeartbeat } from '../../src/node/start-heartbeat.js';
import { watchProcess } from '../../src/node/watch-process.js';
import { describe as describeFromSource, type Progress } from '../../src/node.js';
import type { Session } from '../../src/runtime/engine.js';
import { importPackage } from '../support/built-package.js';
import { testEngine } from '../support/engine.js';
import { SHORT_LLAMA } from '../support/short-llama.js';

/** The built package, whose processes load quickly. */
const { describe: describeModel, EngineError, OptionError, prune, UnsupportedModelError } = await importPackage();

/** For tests that read memory and child processes from /proc. */
const onLinux = process.platform === 'linux' ? it : it.skip;

const children = () =>
  readFileSync(`/proc/self/task/${process.pid}/children`, 'utf8').trim().split(/\s+/).filter(Boolean).map(Number);

describe('an isolated call', () => {
  it('returns the same result, and reports progress', async () => {
    const progress: Progress[] = [];
    const request = { model: SHORT_LLAMA, onProgress: (one: Progress) => progress.push(one) };
    expect(await describeModel({ ...request, isolate: true })).toEqual(await describeModel({ model: SHORT_LLAMA }));
    expect(progress.map(({ stage }) => stage)).toContain('analyse');
  });

  it('works from the TypeScript sources too', async () => {
    const described = describeFromSource({ model: SHORT_LLAMA, isolate: true });
    expect(await described).toEqual(await describeModel({ model: SHORT_LLAMA }));
  });

  it('throws the error that the call throws', async () => {
    const model = 'test/fixtures/exporters/t5-optimum01-fp32';
    const call = describeModel({ model, isolate: true });
    await expect(call).rejects.toThrow(UnsupportedModelError);
    // The stack is that of the other process.
    await expect(call).rejects.toMatchObject({ stack: expect.stringContaining('refuse') });
  });

  it('keeps the option of an OptionError', async () => {
    const call = prune({ model: SHORT_LLAMA, sparsity: 0.3, blockSparsity: { 99: 0 }, dryRun: true, isolate: true });
    await expect(call).rejects.toMatchObject({ code: 'ERR_OPTION', option: 'blockSparsity' });
  });

  it('refuses an engine', async () => {
    const call = describeModel({ model: SHORT_LLAMA, engine: testEngine, isolate: true });
    await expect(call).rejects.toThrow(OptionError);
    await expect(call).rejects.toThrow(/only plain data/);
  });

  it('stops when it is aborted', async () => {
    const abortion = new AbortController();
    const call = describeModel({ model: SHORT_LLAMA, isolate: true, signal: abortion.signal });
    abortion.abort(new Error('enough'));
    await expect(call).rejects.toThrow('enough');
  });

  onLinux('rejects with the error of its listener, and ends its process', async () => {
    const before = new Set(children());
    const thrown = new TypeError('mine');
    const onProgress = () => {
      throw thrown;
    };
    await expect(describeModel({ model: SHORT_LLAMA, onProgress, isolate: true })).rejects.toBe(thrown);
    await expect(describeModel({ model: SHORT_LLAMA, onProgress })).rejects.toBe(thrown);
    // Ends only once the process has exited.
    while (children().some((child) => !before.has(child))) await setTimeout(20);
  });

  onLinux('names call and stage when its process dies', async () => {
    const before = new Set(children());
    const onProgress = () => {
      for (const child of children()) if (!before.has(child)) process.kill(child, 'SIGFPE');
    };
    const call = describeModel({ model: SHORT_LLAMA, onProgress, isolate: true });
    await expect(call).rejects.toThrow(EngineError);
    await expect(call).rejects.toThrow(/the process of describe died by SIGFPE at the stage "(load|analyse)"/);
  });
});

it.each([
  ['died by SIGKILL at the stage "certify"', /^Memory ran short: .*resumes from there.*certify: false/],
  [
    'was ended, since it used 16000 MB, more than 15000 MB at the stage "prune" (block 3)',
    /^Memory ran short: .* resumes from there$/,
  ],
  [
    'was ended, since it used 900 MB, more than 512 MB at the stage "load"',
    /^The model or a file next to it may be the cause/,
  ],
  ['died by SIGSEGV at the stage "prune"', /^The model or a file next to it may be the cause/],
])('suggests a remedy for a process that %s', (death, remedy) => {
  expect(remedyOf(death)).toMatch(remedy);
});

describe('a watchdog', () => {
  const start = (script: string) => spawn(process.execPath, ['-e', script], { stdio: ['ignore', 'pipe', 'inherit'] });

  it('reports no death of a process that ends by itself', async () => {
    expect(await watchProcess(start('process.exitCode = 3'), 0).death).toBeUndefined();
  });

  onLinux('ends a process that holds too much memory', async () => {
    const child = start('const held = []; setInterval(() => held.push(Buffer.alloc(2 ** 25, 1)), 20)');
    const watched = watchProcess(child, 0);
    watched.noteHeartbeat({ stage: 'load', done: 0, total: 1 });
    expect(await watched.death).toMatch(/was ended, since it used \d+ MB, more than 512 MB at the stage "load"/);
  });

  it('waits for a process without CPU time, but not for a stuck one', async () => {
    const child = start('console.log(1); setInterval(() => {}, 1e6)');
    await once(child.stdout!, 'data');
    jest.useFakeTimers();
    const scheduling = { ranMs: 0, waitedMs: 0 };
    const watched = watchProcess(child, 0, () => ({ ...scheduling }));
    watched.noteHeartbeat({ stage: 'analyse', done: 0, total: 1 });
    for (let second = 0; second < 1000; second++) {
      scheduling.ranMs += 50;
      scheduling.waitedMs += 950;
      jest.advanceTimersByTime(1000);
    }
    expect(child.killed).toBe(false);
    jest.advanceTimersByTime(8000);
    jest.useRealTimers();
    expect(await watched.death).toBe('was ended, since it did not respond for 55 s at the stage "analyse"');
  });

  onLinux('reads the CPU time of a process', async () => {
    const child = start('for (;;);');
    try {
      const before = processScheduling(child.pid)!;
      for (let after = before; after.ranMs < before.ranMs + 20; after = processScheduling(child.pid)!)
        await setTimeout(20);
      expect(processScheduling(2 ** 30)).toBeUndefined();
    } finally {
      child.kill('SIGKILL');
    }
  });

  it('ends a process without heartbeats', async () => {
    const child = start('console.log(1); for (;;);');
    await once(child.stdout!, 'data');
    jest.useFakeTimers();
    const watched = watchProcess(child, 0);
    watched.noteHeartbeat({ stage: 'analyse', done: 0, total: 1 });
    jest.advanceTimersByTime(50_000);
    watched.noteHeartbeat();
    jest.advanceTimersByTime(50_000);
    expect(child.killed).toBe(false);
    jest.advanceTimersByTime(10_000);
    jest.useRealTimers();
    expect(await watched.death).toBe('was ended, since it did not respond for 55 s at the stage "analyse"');
  });
});

describe('the heartbeat', () => {
  const idle: Session = { inputs: [], outputs: [], run: async () => ({}), release: async () => {} };

  afterEach(() => jest.useRealTimers());

  it('beats while no call runs and when calls end, but not during a call', async () => {
    jest.useFakeTimers();
    const beat = jest.fn();
    let finish = () => {};
    const run = () => new Promise<Record<string, never>>((resolve) => (finish = () => resolve({})));
    const engine = startHeartbeat(beat)({ name: 'double', load: async () => ({ ...idle, run }) });
    await jest.advanceTimersByTimeAsync(3000);
    expect(beat).toHaveBeenCalledTimes(3);
    const session = await engine.load(new Uint8Array());
    const first = session.run({});
    await jest.advanceTimersByTimeAsync(1000);
    expect(beat).toHaveBeenCalledTimes(4);
    await jest.advanceTimersByTimeAsync(100_000);
    expect(beat).toHaveBeenCalledTimes(4);
    finish();
    await first;
    void session.run({});
    await jest.advanceTimersByTimeAsync(5000);
    expect(beat).toHaveBeenCalledTimes(5);
  });
});
