import { execFileSync } from 'node:child_process';
import { mkdir, readdir, readFile, rename, rm, rmdir, symlink, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { nodePlatform } from '../../src/node/node-platform.js';
import { applyRecipe, observe, type PruneReport, prune, pruneLadder, quantize, shrink } from '../../src/node.js';
import type { LadderRequest } from '../../src/pipeline/prune-request.js';
import type { RunFigures } from '../../src/pipeline/resumable-job.js';
import { runHeal } from '../../src/pipeline/run-heal.js';
import { runObserve } from '../../src/pipeline/run-observe.js';
import { runLadder, runPrune } from '../../src/pipeline/run-prune.js';
import type { JobControl, Progress } from '../../src/progress.js';
import { eagerPlatform } from '../support/eager-platform.js';
import { hashesOf, hashFolder, listFiles, useTemporaryFolder } from '../support/temporary-folder.js';

const folder = useTemporaryFolder();
const at = (path: string) => join(folder(), path);

/** A small decoder, since every model resumes in the same way. */
const MODEL = 'test/fixtures/exporters/llama-genai018-fp32';
const CALIBRATION = {
  windowCount: 4,
  windowLength: 24,
  // No passage is repeated, since windows that are calibrated on are not measured on.
  source: { tokens: Array.from({ length: 2048 }, (_, at) => Math.floor(30 * (1 + Math.sin(at * at)))) },
};
const BRIEF = { ...CALIBRATION, windowCount: 2, windowLength: 16 };
const COMMON = { model: MODEL, calibration: CALIBRATION };
/** A run that resumes certifies and measures again: one row covers that. */
const UNCHECKED = { certify: false, evaluation: false } as const;

const PLATFORM = eagerPlatform(nodePlatform);

type Run = (control: JobControl & { readonly out: string }) => Promise<unknown>;

const RUNS: Readonly<Record<string, Run>> = {
  auto: (control) => runPrune(PLATFORM, { ...COMMON, ...control, sparsity: 0.3, recipe: `${control.out}-recipe` }),
  shots: (control) =>
    runPrune(PLATFORM, { ...COMMON, ...control, sparsity: 0.3, method: 'obc', shots: 2, ...UNCHECKED }),
  contexts: (control) => runPrune(PLATFORM, { ...COMMON, ...control, sparsity: 0.3, method: 'o-fang', ...UNCHECKED }),
  ladder: (control) =>
    runLadder(PLATFORM, { ...COMMON, ...control, sparsity: [0.1, 0.4], method: 'flap', ...UNCHECKED }),
  generating: (control) =>
    runPrune(PLATFORM, {
      ...COMMON,
      ...control,
      sparsity: 0.3,
      modules: 'ffn',
      method: 'flap',
      ...UNCHECKED,
      calibration: { ...CALIBRATION, generate: { share: 1, documentLength: 2 } },
    }),
  quantising: (control) =>
    runPrune(PLATFORM, {
      ...COMMON,
      ...control,
      sparsity: 0.3,
      modules: 'ffn',
      method: 'flap',
      dtype: 'q4',
      ...UNCHECKED,
    }),
  healing: (control) =>
    runPrune(PLATFORM, {
      ...COMMON,
      ...control,
      sparsity: 0.3,
      modules: 'ffn',
      method: 'flap',
      ...UNCHECKED,
      heal: { windowCount: 4, share: 0, windowsPerStep: 2, passCount: 6 },
    }),
  'healing scales': (control) =>
    runPrune(PLATFORM, {
      ...COMMON,
      ...control,
      sparsity: 0.3,
      modules: 'ffn',
      method: 'flap',
      dtype: 'q2',
      ...UNCHECKED,
      heal: { windowCount: 4, share: 0, windowsPerStep: 2, passCount: 3 },
    }),
  observe: (control) => runObserve(PLATFORM, { ...COMMON, ...control, method: 'o-fang', metric: 'divergence' }),
};

describe('an aborted run', () => {
  it.each(Object.keys(RUNS))(
    'resumes after every abort, to the bytes of an uninterrupted run (%s)',
    async (name) => {
      const run = RUNS[name]!;
      await mkdir(at('whole'));
      await mkdir(at('cut'));
      const steps: Progress[] = [];
      // These stages have no checkpoints.
      const hasCheckpoints = ({ stage }: Progress) =>
        !['top-activations', 'save', 'certify', 'quality'].includes(stage);
      await run({ out: at('whole/x'), onProgress: (step) => void (hasCheckpoints(step) && steps.push(step)) });
      let eventCount = 0;
      let cuts = 0;
      for (let isDone = false; !isDone; ) {
        const abortion = new AbortController();
        let own = 0;
        const onProgress = (step: Progress) => {
          if (!hasCheckpoints(step)) return;
          eventCount += 1;
          own += 1;
          if (own > 0.5 * steps.length) abortion.abort();
        };
        isDone = await run({ out: at('cut/x'), onProgress, signal: abortion.signal }).then(
          () => true,
          (error: Error) => {
            expect(error.name).toBe('AbortError');
            return false;
          },
        );
        cuts += isDone ? 0 : 1;
        expect(cuts).toBeLessThan(12);
        const left = await readdir(at('cut'));
        expect(left.some((entry) => entry.endsWith('.partial'))).toBe(!isDone);
      }
      expect(cuts).toBeGreaterThan(1);
      // A run that began again each time would never come to its end.
      expect(eventCount).toBeLessThan(3 * steps.length);
      expect(await hashesOf(at('cut'))).toEqual(await hashesOf(at('whole')));
    },
    240_000,
  );
});

it.each([
  ['certify', { evaluation: false }, { certify: false }, /^an earlier run wrote this without a certificate/],
  ['quality', { certify: false }, { evaluation: false }, /^an earlier run wrote this without measuring its quality/],
] as const)(
  'resumes without the check that was aborted, and prunes no block again: %s',
  async (stage, checks, without, remark) => {
    const request = { ...COMMON, sparsity: 0.3, method: 'flap', ...checks } as const;
    const abortion = new AbortController();
    const stop = (step: Progress) => step.stage === stage && abortion.abort();
    const cut = runPrune(PLATFORM, { ...request, out: at('cut'), onProgress: stop, signal: abortion.signal });
    await expect(cut).rejects.toThrow('abort');
    const pruned: Progress[] = [];
    const onProgress = (step: Progress) => void (step.stage === 'prune' && step.detail && pruned.push(step));
    const report = await runPrune(PLATFORM, { ...request, out: at('cut'), ...without, onProgress });
    expect([report.certificate, report.quality]).toEqual([undefined, undefined]);
    expect(report.remarks).toContainEqual(
      expect.stringMatching(/^resumed from checkpoints of an interrupted run in .*cut\.partial/),
    );
    expect(pruned).toEqual([]);
    const again = await runPrune(PLATFORM, { ...request, out: at('cut') });
    expect(again.createdAt).toBe(report.createdAt);
    expect(again.remarks).toContainEqual(expect.stringMatching(remark));
    const unchecked = await runPrune(PLATFORM, { ...request, ...UNCHECKED, out: at('cut') });
    expect(unchecked.remarks).not.toContainEqual(expect.stringMatching(remark));
  },
);

it('keeps scratch files next to the output, and removes those of a killed run', async () => {
  const createScratch = () => Promise.reject(new Error('the temporary folder is full'));
  await mkdir(at('out.partial'));
  await writeFile(at('out.partial/left.scratch'), 'of a system that removes no open file');
  const request = {
    ...COMMON,
    sparsity: 0.3,
    modules: 'ffn',
    method: 'obc',
    certify: false,
    evaluation: false,
  } as const;
  await runPrune({ ...nodePlatform, createScratch }, { ...request, out: at('out') });
  expect(await readdir(folder())).toEqual(['out']);
});

it('writes the same bytes with checkpoints as without if weights are rounded again', async () => {
  const source = { tokens: Array.from({ length: 64 }, (_, token) => token) };
  const common = { certify: false, evaluation: false, calibration: { windowCount: 2, windowLength: 16, source } };
  await quantize({ ...common, model: MODEL, out: at('quantised'), dtype: 'q4' });
  const request = { ...common, model: at('quantised'), sparsity: 0.3, method: 'o-fang' };
  await runPrune(PLATFORM, { ...request, out: at('x') });
  await prune({ ...request, out: at('y') });
  expect(await hashFolder(at('x'))).toBe(await hashFolder(at('y')));
});

const quick = (request: Partial<LadderRequest> = {}) =>
  pruneLadder({
    model: MODEL,
    out: at('out'),
    sparsity: [0.2],
    method: 'random',
    certify: false,
    evaluation: false,
    ...request,
  });

describe('a repeated command', () => {
  it('returns a finished result', async () => {
    const [first] = await quick();
    const [again] = await quick();
    expect(again).toMatchObject({ createdAt: first!.createdAt });
    await expect(quick({ resume: false })).rejects.toThrow('exists');
    await expect(quick({ seed: 1 })).rejects.toThrow('exists');
    const [remade] = await quick({ force: true });
    expect(remade!.createdAt).not.toBe(first!.createdAt);
  });

  it('replaces all results with force, also after an abort', async () => {
    const request = { ...COMMON, sparsity: [0.1, 0.4], method: 'flap', ...UNCHECKED, out: at('out') } as const;
    const old = await runLadder(PLATFORM, request);
    const abortion = new AbortController();
    let savedCount = 0;
    const onProgress = ({ stage, done, total }: Progress) => {
      if (stage === 'save' && done === total) savedCount += 1;
      if (stage === 'prune' && savedCount === 1) abortion.abort();
    };
    const forced = { ...request, force: true };
    await expect(runLadder(PLATFORM, { ...forced, onProgress, signal: abortion.signal })).rejects.toThrow('abort');
    const { createdAt } = JSON.parse(await readFile(at('out/10/fang-prune-report.json'), 'utf8')) as PruneReport;
    expect(createdAt).not.toBe(old[0]!.createdAt);
    const [first, second] = await runLadder(PLATFORM, forced);
    // What the aborted run wrote is not made again.
    expect(first!.createdAt).toBe(createdAt);
    expect(second!.createdAt).not.toBe(old[1]!.createdAt);
  });

  it('returns finished statistics', async () => {
    const request = { model: MODEL, out: at('statistics'), method: 'flap', calibration: CALIBRATION };
    const first = await observe(request);
    const bytes = await hashesOf(at('statistics'));
    expect(await observe(request)).toMatchObject({ bytes: first.bytes, timings: [] });
    expect(await hashesOf(at('statistics'))).toEqual(bytes);
    await expect(observe({ ...request, seed: 3 })).rejects.toThrow('exists');
    await truncate(at('statistics/statistics.safetensors'), Math.floor(first.bytes / 4));
    await expect(observe(request)).rejects.toThrow('exists');
    await observe({ ...request, force: true });
    expect(await hashesOf(at('statistics'))).toEqual(bytes);
  });

  it.each<[string, (control: JobControl & { readonly force?: boolean }) => Promise<RunFigures>]>([
    [
      'observe',
      (control) =>
        runObserve(PLATFORM, { model: MODEL, out: at('out'), method: 'o-fang', calibration: BRIEF, ...control }),
    ],
    [
      'heal',
      (control) =>
        runHeal(PLATFORM, {
          ...{
            dense: MODEL,
            pruned: at('pruned'),
            out: at('out'),
            calibration: { source: CALIBRATION.source, windowLength: 16 },
          },
          heal: { windowCount: 2, share: 0, windowsPerStep: 1, passCount: 3 },
          certify: false,
          ...control,
        }),
    ],
  ])('makes the result of %s again with force, also after an abort', async (_, run) => {
    await prune({ model: MODEL, out: at('pruned'), sparsity: 0.3, modules: 'ffn', method: 'random', ...UNCHECKED });
    const steps: Progress[] = [];
    await run({ onProgress: (step) => void steps.push(step) });
    const abortion = new AbortController();
    let left = 0.7 * steps.length;
    const onProgress = () => {
      left -= 1;
      if (left < 0) abortion.abort();
    };
    await expect(run({ force: true, onProgress, signal: abortion.signal })).rejects.toThrow('abort');
    const { remarks, timings } = await run({ force: true });
    expect(remarks).toContainEqual(expect.stringMatching(/^resumed from checkpoints of an interrupted run/));
    expect(timings).not.toEqual([]);
  });

  it('does not accept a result of a text that has changed as finished', async () => {
    const calibration = { windowCount: 2, windowLength: 24, source: { file: at('text.txt') } };
    const observeText = async (text: string) => {
      await writeFile(at('text.txt'), text);
      return observe({ model: MODEL, out: at('statistics'), method: 'flap', calibration });
    };
    const words = 'The river ran past the old mill. ';
    const { calibration: measured } = await observeText(words.repeat(20));
    expect((await observeText(words.repeat(20))).calibration).toEqual(measured);
    await expect(observeText('A boat lay on the other bank. '.repeat(20))).rejects.toThrow('exists');
  });

  it('does not accept a result with a damaged report as finished', async () => {
    await quick();
    await writeFile(at('out/20/fang-prune-report.json'), '{"schema":"fang-prune-report/1","blocks":7}');
    await expect(quick()).rejects.toThrow('exists');
  });

  it.each<[string, (request: object) => Promise<unknown>]>([
    [
      'prune',
      (request) =>
        prune({ ...COMMON, sparsity: 0.3, method: 'flap', recipe: at('recipe'), ...request, out: at('out') }),
    ],
    ['shrink', (request) => shrink({ ...COMMON, targetSize: '120KB', allow: ['neurons'], ...request, out: at('out') })],
    ['quantize', (request) => quantize({ model: MODEL, dtype: 'q8', rounding: 'nearest', ...request, out: at('out') })],
  ])('replaces the result of %s without a report, without force', async (_, run) => {
    const call = async (request: object) =>
      [await run({ report: false, ...UNCHECKED, ...request })].flat()[0] as PruneReport;
    const first = await call({});
    const bytes = await hashesOf(folder());
    const again = await call({});
    expect(again.modules).toEqual(first.modules);
    expect(again.remarks).toContainEqual(expect.stringMatching(/out existed without a report.* written again$/));
    expect(await hashesOf(folder())).toEqual(bytes);
    await expect(call({ seed: 1 })).rejects.toThrow('exists');
    await expect(call({ report: true })).rejects.toThrow('exists');
    // Other files of the folder are not removed.
    await writeFile(at('out/mine.txt'), 'mine');
    await expect(call({})).rejects.toThrow('mine.txt');
    await rm(at('out/mine.txt'));
    await truncate(at('out/genai_config.json'), 10);
    await expect(call({})).rejects.toThrow(/recipe\.json exists|genai_config\.json in it has 10 bytes/);
  });

  it('does not return the report of another run that was written to the same path', async () => {
    const request = { model: MODEL, method: 'magnitude', report: at('report.json'), ...UNCHECKED } as const;
    const first = { ...request, out: at('first'), sparsity: 0.3 };
    const { createdAt } = await prune(first);
    expect(await prune(first)).toMatchObject({ createdAt, sparsity: { requested: 0.3 } });
    await prune({ ...request, out: at('second'), sparsity: 0.5 });
    await expect(prune(first)).rejects.toThrow('exists');
    expect(await prune({ ...first, force: true })).toMatchObject({ sparsity: { requested: 0.3 } });
  });

  it('writes the recipe of a finished result that has none, and refuses that of another run', async () => {
    const request = { ...COMMON, out: at('out'), sparsity: 0.3, method: 'flap', ...UNCHECKED } as const;
    await prune(request);
    const bytes = await hashesOf(at('out'));
    const recipe = at('recipe');
    const { remarks } = await prune({ ...request, recipe });
    expect(remarks).toContainEqual(expect.stringMatching(/out existed without its recipe: both were written again$/));
    await applyRecipe({ model: MODEL, recipe, out: at('same') });
    const { 'fang-prune-files.json': manifest, ...copies } = await hashesOf(at('same'));
    expect(manifest).toBeDefined();
    expect(bytes).toMatchObject(copies);
    const { createdAt } = await prune({ ...request, recipe });
    expect(await prune({ ...request, recipe })).toMatchObject({ createdAt });
    await prune({ ...request, out: at('other'), recipe: at('others'), sparsity: 0.4 });
    await expect(prune({ ...request, recipe: at('others') })).rejects.toThrow('exists');
  });

  it('returns a finished result that cannot have a recipe', async () => {
    await quantize({ model: MODEL, dtype: 'q8', rounding: 'nearest', ...UNCHECKED, out: at('coded') });
    const shared = { model: at('coded'), out: at('out'), sparsity: 0.3, method: 'magnitude', ...UNCHECKED } as const;
    const { createdAt, remarks } = await prune({ ...shared, recipe: at('recipe') });
    expect(remarks).toContainEqual(expect.stringMatching(/^no recipe was written/));
    expect(await prune({ ...shared, recipe: at('recipe') })).toMatchObject({ createdAt });
  });

  it('returns the report of a finished result if report is false now', async () => {
    const request = { ...COMMON, out: at('out'), sparsity: 0.3, method: 'flap', ...UNCHECKED } as const;
    const { createdAt } = await prune(request);
    expect(await prune({ ...request, report: false })).toMatchObject({ createdAt });
  });

  it.each([
    ['truncated', (file: string) => truncate(file, 100), 'model.onnx in it has 100 bytes'],
    ['missing', (file: string) => rm(file), 'exists'],
  ])('does not accept a result with a %s model as finished', async (_, damage, message) => {
    await quick();
    await damage(at('out/20/model.onnx'));
    await expect(quick()).rejects.toThrow(message);
  });

  it('repeats the work of damaged checkpoints, to the same bytes', async () => {
    const run = (out: string, control: JobControl = {}) =>
      runPrune(PLATFORM, {
        ...COMMON,
        ...control,
        out,
        sparsity: 0.3,
        method: 'flap',
        certify: false,
        evaluation: false,
      });
    await run(at('whole/x'));
    const abortion = new AbortController();
    const onProgress = ({ stage, done, total }: Progress) =>
      stage === 'prune' && done > 0.7 * total && abortion.abort();
    await expect(run(at('cut/x'), { onProgress, signal: abortion.signal })).rejects.toThrow('abort');
    const entries = (await listFiles(at('cut/x.partial'))).filter((name) => /segment-\d+\.entry$/.test(name));
    expect(entries.length).toBeGreaterThan(1);
    await truncate(at(`cut/x.partial/${entries[0]}`), 100);
    await run(at('cut/x'));
    expect(await hashesOf(at('cut'))).toEqual(await hashesOf(at('whole')));
  });

  it('ignores checkpoints of other options, with a remark', async () => {
    const abortion = new AbortController();
    const cut = { ...COMMON, out: at('out'), sparsity: 0.3, method: 'flap', certify: false, evaluation: false };
    const onProgress = ({ stage, done, total }: Progress) =>
      stage === 'prune' && done > 0.7 * total && abortion.abort();
    await expect(runPrune(PLATFORM, { ...cut, onProgress, signal: abortion.signal })).rejects.toThrow('abort');
    expect(await readdir(folder())).toContain('out.partial');
    const kept = await listFiles(at('out.partial'));
    await prune({ ...cut, seed: 2, dryRun: true });
    expect(await listFiles(at('out.partial'))).toEqual(kept);
    const { remarks } = await prune({ ...cut, seed: 1 });
    expect(remarks.join()).toContain('another model, text, options or version');
    expect(await readdir(folder())).toEqual(['out']);
  });

  it('writes the last healing checkpoint of an aborted run with stopHealing', async () => {
    const request = {
      ...COMMON,
      ...({ out: at('out'), sparsity: 0.4, modules: 'ffn', method: 'flap', dtype: 'q4', evaluation: false } as const),
      heal: { windowCount: 8, share: 0, windowsPerStep: 1, learningRate: 1e-3 },
    };
    const stopped = { ...request, stopHealing: true };
    await expect(runPrune(PLATFORM, { ...stopped, heal: false })).rejects.toThrow('stopHealing has no effect');
    await expect(runPrune(PLATFORM, stopped)).rejects.toThrow('no healing checkpoint to stop at');
    const abortion = new AbortController();
    const onProgress = ({ detail }: Progress) => detail === 'step 6 of 8' && abortion.abort();
    await expect(runPrune(PLATFORM, { ...request, onProgress, signal: abortion.signal })).rejects.toThrow('abort');
    const { healing, remarks } = await runPrune(PLATFORM, stopped);
    expect(healing).toMatchObject({ stopped: true });
    expect(remarks.join()).toContain('the rounded model was not healed');
    expect(healing!.curve.at(-1)).toMatchObject({ step: 5 });
    const { before, after } = healing!.divergence;
    expect(after).toBeLessThan(before);
    expect(healing!.curve.find(({ step }) => step === healing!.keptStep)).toMatchObject({ heldOut: after });
    // It is not the result of the request without stopHealing.
    await expect(runPrune(PLATFORM, request)).rejects.toThrow('exists');
  });

  it('restores the old folder of a run that was interrupted between two renames', async () => {
    await quick();
    await mkdir(at('out/20.partial'));
    await rename(at('out/20'), at('out/20.partial/replaced'));
    const [report] = await quick();
    expect(report!.out).toContain('20');
    expect(await readdir(at('out'))).toEqual(['20']);
  });
});

describe('a workspace that no run wrote', () => {
  const partial = (name = '') => at(`out.partial/${name}`);

  it.each<readonly [string, () => Promise<unknown>, RegExp]>([
    ['a file', () => writeFile(partial('notes.txt'), 'mine'), /contains notes.txt, which no run wrote/],
    [
      'a link under the name of an entry',
      () => symlink(at('mine'), partial('place.entry.new')),
      /contains place.entry.new,/,
    ],
    ['a link under the name of the run', () => symlink(at('mine'), partial('run.json')), /contains run.json,/],
    ['a pipe', async () => execFileSync('mkfifo', [partial('run.json')]), /contains run.json, which no run wrote/],
    [
      'a link in place of the result',
      () => symlink(folder(), partial('result')),
      /contains result, which no run wrote/,
    ],
    [
      'a link in its place',
      async () => {
        await rmdir(partial());
        await symlink(folder(), at('out.partial'));
      },
      /out.partial is a link/,
    ],
  ])('is refused and not changed: %s', async (_, make, message) => {
    await mkdir(partial());
    await writeFile(at('mine'), 'mine');
    await make();
    const before = await listFiles(folder());
    await expect(quick()).rejects.toThrow(message);
    expect(await readFile(at('mine'), 'utf8')).toBe('mine');
    expect(await listFiles(folder())).toEqual(before);
  });
});
