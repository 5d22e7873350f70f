import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { OptionError } from '../../src/errors.js';
import { type LadderRequest, type Progress, prune, pruneLadder, quantize } from '../../src/node.js';
import { savedReport } from '../support/saved-report.js';
import { copyShortLlama, SHORT_LLAMA } from '../support/short-llama.js';
import { hashesOf, listFiles, useTemporaryFolder } from '../support/temporary-folder.js';

const folder = useTemporaryFolder();
const at = (path: string) => join(folder(), path);

const CALIBRATION = { windowCount: 2, windowLength: 24 };
const runLadder = (request: Partial<LadderRequest> = {}) =>
  pruneLadder({
    model: SHORT_LLAMA,
    out: at('ladder'),
    sparsity: [0.1, 0.3],
    calibration: CALIBRATION,
    certify: false,
    evaluation: false,
    ...request,
  });

describe('pruneLadder', () => {
  it.each(['auto', 'o-fang', 'flap'])(
    'gives the bytes of a single run (%s)',
    async (method) => {
      const model = await copyShortLlama(at('in'));
      const [, report] = await runLadder({ model, method });
      const shared = { calibration: CALIBRATION, certify: false, evaluation: false };
      const single = await prune({ ...shared, model, out: at('single'), sparsity: 0.3, method });
      const rung = at('ladder/30');
      const hashes = await hashesOf(rung);
      expect(Object.keys(hashes)).toContain('onnx/model.onnx');
      expect(hashes).toEqual(await hashesOf(at('single')));
      const written = JSON.parse(await readFile(join(rung, 'fang-prune-report.json'), 'utf8'));
      expect(written).toEqual(savedReport(report!));
      expect(written).toMatchObject({ out: '30', settings: { sparsity: 0.3 }, sparsity: single.sparsity });
      expect(await listFiles(at('ladder/10'))).toEqual(await listFiles(rung));
    },
    240_000,
  );

  it.each(['dense', 'quantised'])('gives the bytes of single runs next to sparsity 0 (%s model)', async (form) => {
    const isDense = form === 'dense';
    const calibration = { windowCount: 4, windowLength: 24 };
    const shared = {
      method: 'flap',
      calibration,
      certify: false,
      evaluation: false,
      ...(isDense && { dtype: 'q4' as const }),
    } as const;
    let model = SHORT_LLAMA;
    if (!isDense) {
      model = at('q4');
      await quantize({
        model: SHORT_LLAMA,
        out: model,
        dtype: 'q4',
        rounding: 'nearest',
        certify: false,
        evaluation: false,
      });
    }
    await pruneLadder({ ...shared, model, out: at('ladder'), sparsity: [0, 0.3] });
    for (const sparsity of [0, 0.3]) {
      const out = at(`single-${sparsity}`);
      const { modules } = await prune({ ...shared, model, out, sparsity });
      expect(await hashesOf(at(`ladder/${100 * sparsity}`))).toEqual(await hashesOf(out));
      for (const { kind, keep } of modules) if (kind === 'ffn') expect(keep!.length % 32).toBe(0);
    }
  });

  it('checks all outputs before it prunes, and replaces only rungs', async () => {
    const quick = { method: 'random', calibration: undefined, report: at('reports/a.json') };
    await runLadder({ ...quick, sparsity: [0.125] });
    await writeFile(at('ladder/notes.txt'), 'mine');
    await expect(runLadder({ ...quick, sparsity: [0.07, 0.125], seed: 1 })).rejects.toThrow(OptionError);
    expect(await listFiles(at('ladder'))).not.toContainEqual(expect.stringMatching(/^7\//));
    await runLadder({ ...quick, sparsity: [0.07, 0.125], force: true });
    const files = await listFiles(folder());
    expect(files).toEqual(expect.arrayContaining(['ladder/notes.txt', 'ladder/7/config.json', 'reports/a-12.5.json']));
    expect(files.filter((file) => file.includes('partial') || file.includes('replaced'))).toEqual([]);
  });

  it.each([[[]], [[0.1, 0.1]], [[0.1, 1]], [0.3 as never]])('refuses %j', async (sparsity) => {
    await expect(runLadder({ sparsity })).rejects.toThrow(OptionError);
  });

  it.each([1, 2])('reports progress of measurements and of all rungs (shots: %d)', async (shots) => {
    const seen: Progress[] = [];
    await runLadder({
      dryRun: true,
      method: 'o-fang',
      modules: 'ffn',
      shots,
      onProgress: (step) => void seen.push(step),
    });
    const begun = seen.filter(
      ({ stage, done, total }, at) =>
        done === 0 && total === 1 && (seen[at - 1]?.stage !== stage || seen[at - 1]?.done !== 0),
    );
    const measuring = ['measure', 'gradients'];
    const rungs =
      shots === 1 ? [...measuring, 'prune', 'prune'] : Array.from({ length: 4 }, () => [...measuring, 'prune']).flat();
    expect(begun.map(({ stage }) => stage).filter((stage) => [...measuring, 'prune'].includes(stage))).toEqual(rungs);
    const fractions = seen.flatMap(({ overall }) => overall ?? []);
    expect(fractions).toEqual(fractions.toSorted((a, b) => a - b));
    expect(fractions.at(-1)).toBeGreaterThan(0.8);
  });

  it('keeps complete rungs when it is aborted in a later one', async () => {
    const abort = new AbortController();
    let savedCount = 0;
    const onProgress: LadderRequest['onProgress'] = ({ stage, done, total }) => {
      if (stage !== 'save') return;
      if (savedCount === 1) abort.abort();
      if (done === total) savedCount++;
    };
    await expect(
      runLadder({ method: 'random', calibration: undefined, onProgress, signal: abort.signal }),
    ).rejects.toThrow('abort');
    const tops = (await listFiles(at('ladder'))).map((file) => file.split('/')[0]);
    expect([...new Set(tops)]).toEqual(['10']);
  });
});
