import { appendFile, cp, mkdir, readFile, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { ModelFormatError, OptionError } from '../../src/errors.js';
import { nodePlatform } from '../../src/node/node-platform.js';
import {
  applyRecipe,
  heal,
  observe,
  type PruneRequest,
  prune,
  pruneLadder,
  rebuildReport,
  type Stages,
} from '../../src/node.js';
import { checkFreeSpace } from '../../src/pipeline/check-output-paths.js';
import { runPrune } from '../../src/pipeline/run-prune.js';
import { openModelFolder } from '../../src/storage/model-folder.js';
import { eagerPlatform } from '../support/eager-platform.js';
import { SHORT_LLAMA } from '../support/short-llama.js';
import { listFiles, useTemporaryFolder } from '../support/temporary-folder.js';

const folder = useTemporaryFolder();
const at = (path: string) => join(folder(), path);

/** A small decoder, since paths are checked alike for every model. */
const MODEL = 'test/fixtures/exporters/llama-genai018-fp32';

const REQUEST = {
  model: MODEL,
  sparsity: 0.3,
  method: 'flap',
  modules: 'ffn',
  certify: false,
  evaluation: false,
  calibration: {
    windowCount: 2,
    windowLength: 16,
    source: { tokens: Array.from({ length: 64 }, (_, token) => token) },
  },
} as const;

/** Expects a request to be refused before the run begins. */
async function expectRefusal(request: Partial<PruneRequest>, reason: RegExp): Promise<void> {
  const stages: string[] = [];
  const onProgress: PruneRequest['onProgress'] = ({ stage }) => stages.push(stage);
  const before = await listFiles(folder());
  const run = prune({ ...REQUEST, out: at('out'), ...request, onProgress });
  await expect(run).rejects.toThrow(OptionError);
  await expect(run).rejects.toThrow(reason);
  expect(stages).toEqual([]);
  expect(await listFiles(folder())).toEqual(before);
}

it('does not replace a home folder, even with force', async () => {
  await mkdir(at('home/.ssh'), { recursive: true });
  await writeFile(at('home/.ssh/id'), 'key');
  await symlink(at('home'), at('link'));
  await expectRefusal({ out: at('home'), force: true }, /holds \.ssh\/id, and no fang-prune-files\.json/);
  await expectRefusal({ out: at('link'), force: true }, /is a link/);
  await expect(pruneLadder({ ...REQUEST, sparsity: [0.1], out: at('home'), force: true })).resolves.toHaveLength(1);
  expect(await readFile(at('home/.ssh/id'), 'utf8')).toBe('key');
});

it('replaces rungs and results of recipes only without foreign files', async () => {
  await prune({ ...REQUEST, out: at('out'), recipe: at('recipe') });
  await prune({ ...REQUEST, out: at('out'), recipe: at('recipe'), force: true });
  await writeFile(at('out/notes.txt'), 'mine');
  const apply = { model: MODEL, recipe: at('recipe'), out: at('out'), force: true };
  await expect(applyRecipe(apply)).rejects.toThrow(/does not list notes\.txt/);
  const runLadder = () => pruneLadder({ ...REQUEST, sparsity: [0.1, 0.2], out: at('ladder'), force: true });
  await runLadder();
  await runLadder();
  await writeFile(at('ladder/20/notes.txt'), 'mine');
  await expect(runLadder()).rejects.toThrow(/ladder\/20 is not replaced/);
});

it('replaces only recipes, statistics and reports', async () => {
  await writeFile(at('package.json'), '{"name": "mine"}');
  await writeFile(at('a.safetensors'), 'mine');
  await writeFile(at('b.html'), 'mine');
  for (const force of [true, false]) {
    await expectRefusal({ recipe: at('package.json'), force }, /is not of a recipe/);
    await expectRefusal({ recipe: at('a.json'), force }, /a\.safetensors exists/);
    await expectRefusal({ report: at('package.json'), force }, /is not a report/);
    await expectRefusal({ report: at('b.json'), force }, /b\.html exists/);
  }
  await expectRefusal({ report: at('out/a.json') }, /is in the output folder/);
  await expectRefusal(
    { report: at('both.json'), recipe: at('both.json') },
    /^report and recipe have the same path, .*both\.json; /,
  );
  const request = { model: MODEL, method: 'flap', force: true, calibration: REQUEST.calibration };
  await expect(observe({ ...request, out: at('package.json') })).rejects.toThrow(/is not of a statistics/);
  await prune({ ...REQUEST, out: at('out') });
  await expect(rebuildReport({ report: at('out'), out: at('package.json') })).rejects.toThrow(/is not a report/);
});

it('checks the calibration text and the paths of all files before it begins', async () => {
  const calibration = { ...REQUEST.calibration };
  await expectRefusal({ calibration: { ...calibration, source: { file: at('none.txt') } } }, /no such file/);
  await expectRefusal({ calibration: { ...calibration, source: { file: folder() } } }, /it is a folder/);
  await mkdir(at('taken.jsonl'));
  await expectRefusal({ calibration: { ...calibration, generate: { file: at('taken.jsonl') } } }, /is a folder/);
  await expectRefusal({ report: at(`${'a'.repeat(260)}.json`) }, /too long/);
});

it('adds up the bytes of several results and of scratch files', async () => {
  const model = await openModelFolder(nodePlatform, SHORT_LLAMA);
  const results = [0.5, 0.5].map((sparsity, rung) => ({ sparsity, out: at(`ladder/${rung}`) }));
  await checkFreeSpace(model, results, { force: false, denseBytes: 1000 });
  await expect(checkFreeSpace(model, results, { force: false, denseBytes: 1e18 })).rejects.toThrow(
    /at least 5\d+ bytes/,
  );
  const scratch = checkFreeSpace(model, results, { force: false, denseBytes: 1000, scratchBytes: 7e18 });
  await expect(scratch).rejects.toThrow(/at least 7\d+ bytes/);
  await model.close();
});

it('fails when the model changes during the run, and keeps its checkpoints', async () => {
  const model = at('in');
  await cp(MODEL, model, { recursive: true });
  const grow: PruneRequest['onProgress'] = ({ stage, done }) => {
    if (stage === 'save' && done === 0) changed ??= appendFile(join(model, 'model.onnx'), ' ');
  };
  let changed: Promise<void> | undefined;
  const run = runPrune(eagerPlatform(nodePlatform), { ...REQUEST, model, out: at('out'), onProgress: grow });
  await expect(run).rejects.toThrow(ModelFormatError);
  await expect(run).rejects.toThrow(/model\.onnx changed while it was in use/);
  await changed;
  const left = (await listFiles(folder())).filter((file) => !file.startsWith('in/'));
  expect(left).toContain('out.partial/run.json');
  expect(left.filter((file) => !file.startsWith('out.partial/'))).toEqual([]);
  expect(left.filter((file) => file.includes('/result/'))).toEqual([]);
});

it('writes no healed model when the dense model changes during the run', async () => {
  const [dense, pruned, out] = [at('dense'), at('pruned'), at('out')];
  await cp(MODEL, dense, { recursive: true });
  await prune({ ...REQUEST, model: dense, out: pruned });
  const quality: Stages['quality'] = {
    name: 'quality',
    async run() {
      await appendFile(join(dense, 'model.onnx'), ' ');
      return undefined;
    },
  };
  const { windowLength, source } = REQUEST.calibration;
  const settings = { heal: { windowCount: 2, share: 0 }, calibration: { windowLength, source }, certify: false };
  const run = heal({ ...settings, dense, pruned, out, stages: { quality } });
  await expect(run).rejects.toThrow(/dense.model\.onnx changed while it was in use/);
  expect((await listFiles(folder())).filter((file) => file.startsWith('out/'))).toEqual([]);
});
