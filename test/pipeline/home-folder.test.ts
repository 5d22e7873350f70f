import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { nodePlatform } from '../../src/node/node-platform.js';
import { runApply } from '../../src/pipeline/run-apply.js';
import { runHeal } from '../../src/pipeline/run-heal.js';
import { runObserve } from '../../src/pipeline/run-observe.js';
import { runLadder, runPrune } from '../../src/pipeline/run-prune.js';
import { runPush } from '../../src/pipeline/run-push.js';
import { runQuantize } from '../../src/pipeline/run-quantize.js';
import { PRIVATE_FILES } from '../support/home-folder.js';
import { buildDecoder } from '../support/small-decoder.js';
import { listFiles, useTemporaryFolder } from '../support/temporary-folder.js';

const folder = useTemporaryFolder();
const at = (path: string) => join(folder(), path);
const SECRET = 'hunter2';

/** A home folder with a model among private files. */
async function writeHome(): Promise<string> {
  const files: Readonly<Record<string, string | Uint8Array>> = {
    ...Object.fromEntries([...PRIVATE_FILES, 'proj/embed_tokens.onnx'].map((path) => [path, SECRET])),
    ...{
      'model.onnx': buildDecoder(),
      'config.json': JSON.stringify({ model_type: 'llama', _name_or_path: at('home') }),
      LICENSE: 'free',
    },
    'merges.txt': 'a b',
  };
  for (const [path, content] of Object.entries(files)) {
    await mkdir(dirname(at(`home/${path}`)), { recursive: true });
    await writeFile(at(`home/${path}`), content);
  }
  return at('home');
}

const calibration = {
  source: { tokens: [Array.from({ length: 64 }, (_, at) => (at * 7) % 40)] },
  windowLength: 8,
  windowCount: 8,
};
const short = { certify: false, evaluation: false, seed: 1 } as const;
const RESULT_FILES = ['LICENSE', 'config.json', 'fang-prune-files.json', 'merges.txt', 'model.onnx'];

/** Files of a result, none of which may contain private data or paths of the home folder. */
async function check(out: string): Promise<readonly string[]> {
  const files = await listFiles(at(out));
  for (const file of files) {
    const content = await readFile(at(`${out}/${file}`), 'latin1');
    for (const secret of [SECRET, folder(), 'passwords.txt', 'other.onnx', 'id_ed25519'])
      expect([file, content.includes(secret)]).toEqual([file, false]);
  }
  return files.filter((file) => !file.includes('fang-prune-report'));
}

it('is not copied into any result, nor are paths of the machine', async () => {
  const model = await writeHome();
  const pruned = await runPrune(nodePlatform, {
    ...short,
    model,
    out: at('pruned'),
    recipe: at('recipe'),
    sparsity: 0.5,
    method: 'magnitude',
    modules: 'ffn',
  });
  expect(pruned).toMatchObject({ model, out: at('pruned'), sideFiles: { copied: ['LICENSE', 'merges.txt'] } });
  const { left = [], leftCount } = pruned.sideFiles!;
  expect(left).toEqual(expect.arrayContaining(['.env', '.ssh/', 'passwords.txt', 'proj/']));
  expect(leftCount).toBeGreaterThanOrEqual(left.length);
  expect(await check('pruned')).toEqual(RESULT_FILES);
  await check('recipe');
  const saved = JSON.parse(await readFile(at('pruned/fang-prune-report.json'), 'utf8'));
  expect(saved).toMatchObject({
    model: 'home',
    out: 'pruned',
    sideFiles: { copied: ['LICENSE', 'merges.txt'], leftCount },
  });
  expect(saved.sideFiles).not.toHaveProperty('left');

  const ladder = {
    ...short,
    model,
    out: at('ladder'),
    sparsity: [0.25, 0.5],
    method: 'magnitude',
    modules: 'ffn',
  } as const;
  await runLadder(nodePlatform, ladder);
  expect(await check('ladder')).toEqual(['25', '50'].flatMap((rung) => RESULT_FILES.map((file) => `${rung}/${file}`)));
  await runQuantize(nodePlatform, {
    model,
    out: at('quantised'),
    dtype: 'q8',
    rounding: 'nearest',
    certify: false,
    evaluation: false,
  });
  expect(await check('quantised')).toEqual(
    RESULT_FILES.map((file) => (file === 'model.onnx' ? 'onnx/model_quantized.onnx' : file)),
  );
  const applied = await runApply(nodePlatform, { model, recipe: at('recipe'), out: at('applied') });
  expect(applied.sideFiles).toMatchObject({ copied: ['LICENSE', 'merges.txt'], leftCount });
  expect(await check('applied')).toEqual(RESULT_FILES);
  await runObserve(nodePlatform, { model, out: at('statistics'), method: 'flap', modules: 'ffn', calibration });
  await check('statistics');
  const healing = {
    heal: { windowCount: 4, passCount: 1, share: 0 },
    calibration: { ...calibration, windowCount: undefined },
  } as const;
  const healed = await runHeal(nodePlatform, {
    dense: model,
    pruned: at('pruned'),
    out: at('healed'),
    certify: false,
    ...healing,
  });
  expect(healed.sideFiles).toMatchObject({ copied: ['LICENSE', 'config.json', 'merges.txt'] });
  expect(await check('healed')).toEqual([
    ...RESULT_FILES.slice(0, 3),
    'fang-prune-healing.json',
    ...RESULT_FILES.slice(3),
  ]);

  const push = { folder: at('pruned'), repo: 'me/small', dryRun: true } as const;
  const { files } = await runPush(nodePlatform, push);
  expect(files.map(({ path }) => path)).toEqual(['LICENSE', 'config.json', 'merges.txt', 'model.onnx']);
});
