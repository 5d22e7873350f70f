import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { OptionError } from '../../src/errors.js';
import { generateText, type LadderRequest, type PruneRequest, perplexity, prune, pruneLadder } from '../../src/node.js';
import type { Progress } from '../../src/progress.js';
import type { PruneReport } from '../../src/report/report-schema.js';
import { savedReport } from '../support/saved-report.js';
import { SHORT_LLAMA } from '../support/short-llama.js';
import { listFiles, useTemporaryFolder } from '../support/temporary-folder.js';

const folder = useTemporaryFolder();
const at = (path: string) => join(folder(), path);
const readReport = async (path: string) =>
  JSON.parse(await readFile(at(`${path}/fang-prune-report.json`), 'utf8')) as PruneReport;

const TEXTS = ['french', 'python'].map((name) => `${SHORT_LLAMA}/text/${name}.txt`);
const WINDOWS = { windowCount: 2, windowLength: 32 };
const QUICK = { model: SHORT_LLAMA, method: 'random', certify: false, evaluation: false } as const;

const run = (request: Partial<PruneRequest> = {}) =>
  prune({ ...QUICK, out: at('out'), sparsity: 0.3, evaluation: { texts: TEXTS, ...WINDOWS }, ...request });

describe('evaluation of a run', () => {
  it('puts the perplexities of both models into the report', async () => {
    const steps: Progress[] = [];
    const report = await run({ onProgress: (step) => steps.push(step) });
    expect(report.metrics).toHaveLength(2);
    for (const [index, file] of TEXTS.entries()) {
      const dense = await perplexity({ model: SHORT_LLAMA, text: file, ...WINDOWS });
      const pruned = await perplexity({ model: at('out'), text: file, ...WINDOWS });
      expect(report.metrics![index]).toEqual({
        kind: 'perplexity',
        name: file,
        dense: dense.perplexity,
        pruned: pruned.perplexity,
        bitsPerByte: { dense: dense.bitsPerByte, pruned: pruned.bitsPerByte },
        better: 'lower',
        protocol: pruned.protocol,
      });
    }
    expect(await readReport('out')).toEqual(savedReport(report));
    expect(await readFile(at('out/fang-prune-report.html'), 'utf8')).toContain(TEXTS[1]!);
    expect(report.timings.at(-1)).toEqual({ stage: 'evaluate', ms: expect.any(Number) });
    const measured = steps.filter(({ stage }) => stage === 'evaluate');
    const ofOneModel = ['0/1', '1/4', '2/4', '3/4', '4/4'];
    expect(measured.map(({ done, total }) => `${done}/${total}`)).toEqual([...ofOneModel, ...ofOneModel]);
  });

  it('excludes windows that are evaluated from healing', async () => {
    const calibration = { source: { file: TEXTS[0]! }, windowLength: 32, selection: 'first' } as const;
    const heal = { windowCount: 6, share: 0, windowsPerStep: 6 };
    const { healing, remarks } = await run({ calibration, heal });
    const left = remarks
      .join()
      .match(/left out (\d+) windows? to heal on, since evaluated texts contain the same tokens/);
    expect(Number(left?.[1])).toBeGreaterThanOrEqual(WINDOWS.windowCount);
    expect(healing!.windowCount + healing!.heldOutCount + Number(left?.[1])).toBe(8);
    const evaluation = { texts: TEXTS, windowLength: 32 };
    await expect(run({ out: at('other'), calibration, heal, evaluation })).rejects.toThrow(
      /^heal.share cuts windows that are evaluated too: of 8, 0 do not overlap/,
    );
  });

  it.each<[string, () => Promise<Partial<PruneRequest>>]>([
    [
      'a text shorter than a window',
      async () => {
        await writeFile(at('short.txt'), 'Hello.');
        return { evaluation: { texts: [TEXTS[0]!, at('short.txt')], windowLength: 32 } };
      },
    ],
    ['a missing text', async () => ({ evaluation: { texts: [at('none.txt')] } })],
    ['no text', async () => ({ evaluation: { texts: [] } })],
    ['windows longer than the model reads', async () => ({ evaluation: { texts: TEXTS, windowLength: 513 } })],
    ['a prompt longer than the model reads', async () => ({ evaluation: { prompts: ['word '.repeat(600)] } })],
    ['a dry run', async () => ({ dryRun: true })],
  ])('refuses %s before the run begins', async (_, request) => {
    const stages: string[] = [];
    const refused = run({ ...(await request()), onProgress: ({ stage }) => stages.push(stage) });
    await expect(refused).rejects.toThrow(OptionError);
    expect(stages).toEqual([]);
    expect((await listFiles(folder())).filter((file) => file !== 'short.txt')).toEqual([]);
  });

  it('reports texts that both models generate from prompts', async () => {
    const { samples, metrics } = await run({ evaluation: { prompts: ['The', 'Once upon'], newTokens: 4 } });
    expect(metrics).toBeUndefined();
    expect(samples!.map(({ prompt }) => prompt)).toEqual(['The', 'Once upon']);
    const expected = await generateText({ model: at('out'), prompt: 'The', newTokens: 4 });
    expect(samples![0]!.pruned).toBe(expected.text);
    expect(await readReport('out')).toMatchObject({ samples });
  });

  it('names the text that is too short', async () => {
    await writeFile(at('short.txt'), 'Hello.');
    await expect(run({ evaluation: { texts: [at('short.txt')], windowLength: 32 } })).rejects.toThrow(
      /short\.txt: found \d+ tokens/,
    );
  });

  it('keeps the written model when it is aborted', async () => {
    const abort = new AbortController();
    const onProgress = ({ stage }: Progress) => stage === 'evaluate' && abort.abort();
    await expect(run({ onProgress, signal: abort.signal })).rejects.toThrow('abort');
    expect(await readReport('out')).not.toHaveProperty('metrics');
    expect(await listFiles(at('out'))).toContain('onnx/model.onnx');
  });
});

describe('evaluation of a ladder', () => {
  const runLadder = (request: Partial<LadderRequest> = {}) =>
    pruneLadder({ ...QUICK, out: at('ladder'), sparsity: [0.1, 0.3], ...request });

  it('measures the dense model once, and adds the table to every report', async () => {
    let windowCount = 0;
    const reports = await runLadder({
      evaluation: { texts: TEXTS, ...WINDOWS },
      onProgress: ({ stage, done }) => {
        if (stage === 'evaluate' && done > 0) windowCount++;
      },
    });
    expect(windowCount).toBe(3 * TEXTS.length * WINDOWS.windowCount);
    const [first, second] = reports as [PruneReport, PruneReport];
    const perplexities = ({ metrics }: PruneReport, of: 'dense' | 'pruned') =>
      metrics!.map(({ name, protocol, [of]: value }) => ({ text: name, perplexity: value, protocol }));
    expect(first.ladder).toEqual([
      {
        requested: 0,
        achieved: 0,
        parameters: first.parameters.before,
        bytes: first.bytes.before,
        perplexities: perplexities(first, 'dense'),
      },
      ...[first, second].map((report) => ({
        requested: report.sparsity.requested,
        achieved: report.sparsity.achieved,
        out: report.out,
        parameters: report.parameters.after,
        bytes: report.bytes.after,
        perplexities: perplexities(report, 'pruned'),
      })),
    ]);
    expect(second.ladder).toEqual(first.ladder);
    for (const [name, report] of [['10', first] as const, ['30', second] as const])
      expect(await readReport(`ladder/${name}`)).toEqual(savedReport(report));
  });

  it('has a table without perplexities when nothing was measured, also in a dry run', async () => {
    const reports = await runLadder({ dryRun: true, report: at('reports/a.json') });
    expect(reports.map(({ ladder }) => ladder!.map(({ requested }) => requested))).toEqual([
      [0, 0.1, 0.3],
      [0, 0.1, 0.3],
    ]);
    expect(JSON.stringify(reports[0]!.ladder)).not.toMatch(/perplexities|"out"/);
    expect(JSON.parse(await readFile(at('reports/a-30.json'), 'utf8')).ladder).toHaveLength(3);
  });
});
