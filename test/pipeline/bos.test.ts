import { cp, mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { evaluateModels, logLikelihoods, perplexity, prune } from '../../src/node.js';
import { WINDOWS_FILE } from '../../src/storage/windows-file.js';
import { SHORT_LLAMA } from '../support/short-llama.js';
import { useTemporaryFolder } from '../support/temporary-folder.js';

const folder = useTemporaryFolder();
const at = (path: string) => join(folder(), path);
const PYTHON = `${SHORT_LLAMA}/text/python.txt`;

/** The bundled model with a tokenizer that adds token 1 as BOS. @param layout where its ONNX file is */
async function modelWithBos(layout: 'onnx' | 'genai'): Promise<string> {
  const root = at('model');
  await mkdir(join(root, 'onnx'), { recursive: true });
  const file = layout === 'onnx' ? 'onnx/model.onnx' : 'model.onnx';
  await cp(join(SHORT_LLAMA, 'onnx/model.onnx'), join(root, file));
  for (const name of ['config.json', 'tokenizer_config.json']) await cp(join(SHORT_LLAMA, name), join(root, name));
  if (layout === 'genai')
    await writeFile(
      join(root, 'genai_config.json'),
      JSON.stringify({ model: { bos_token_id: 1, decoder: { filename: 'model.onnx' } } }),
    );
  const tokenizer = JSON.parse(await readFile(join(SHORT_LLAMA, 'tokenizer.json'), 'utf8'));
  const [id] = Object.entries(tokenizer.model.vocab).find(([, token]) => token === 1)!;
  const single = [{ SpecialToken: { id, type_id: 0 } }, { Sequence: { id: 'A', type_id: 0 } }];
  const special_tokens = { [id]: { id, ids: [1], tokens: [id] } };
  const post_processor = { type: 'TemplateProcessing', single, pair: single, special_tokens };
  await writeFile(join(root, 'tokenizer.json'), JSON.stringify({ ...tokenizer, post_processor }));
  return root;
}

const SHAPE = { windowCount: 2, windowLength: 24 };
const pruneWith = (model: string, out: string, changes: { readonly bos?: boolean } = {}) =>
  prune({
    model,
    out: at(out),
    sparsity: 0.2,
    modules: 'ffn',
    method: 'wanda',
    certify: false,
    calibration: { ...SHAPE, generate: { share: 0.5, documentLength: 12 } },
    evaluation: { texts: [PYTHON], ...SHAPE },
    ...changes,
  });

it('begins all windows of a run with the BOS token, and reports it', async () => {
  const model = await modelWithBos('genai');
  const { calibration, quality, metrics, settings } = await pruneWith(model, 'out');
  expect(calibration).toMatchObject({ leadingTokens: [1], generated: { startToken: 1 } });
  expect(quality!.protocol.leadingTokens).toEqual([1]);
  expect(metrics![0]!.protocol!.leadingTokens).toEqual([1]);
  expect(settings).not.toHaveProperty('bos');
  const [, window] = (await readFile(at(`out/${WINDOWS_FILE}`), 'utf8')).trim().split('\n');
  const { input_ids: ids } = JSON.parse(window!);
  expect([ids[0], ids[12]]).toEqual([1, 1]);
});

it('reads generated windows with another start token again, and refuses them if bos is false', async () => {
  const model = await modelWithBos('onnx');
  const generate = { share: 1, documentLength: 12, startToken: 5, file: at('windows.jsonl') };
  const run = (changes: { readonly bos?: boolean } = {}) =>
    prune({
      model,
      out: at('out'),
      dryRun: true,
      sparsity: 0.2,
      modules: 'ffn',
      method: 'wanda',
      calibration: { ...SHAPE, generate },
      certify: false,
      evaluation: false,
      ...changes,
    });
  const { calibration } = await run();
  const [, window] = (await readFile(generate.file, 'utf8')).trim().split('\n');
  expect(JSON.parse(window!).input_ids.slice(0, 2)).toEqual([1, 5]);
  expect((await run()).calibration).toEqual(calibration);
  await expect(run({ bos: false })).rejects.toThrow(/another run: leadingTokens \[1\] \(here undefined\)/);
});

it('begins no window with the BOS token if bos is false', async () => {
  const model = await modelWithBos('onnx');
  const { calibration, quality, metrics, settings } = await pruneWith(model, 'out', { bos: false });
  for (const measured of [calibration, quality!.protocol, metrics![0]!.protocol])
    expect(measured).not.toHaveProperty('leadingTokens');
  expect(settings).toMatchObject({ bos: false });
});

it('measures texts and tasks with the BOS token, or without if bos is false', async () => {
  const model = await modelWithBos('onnx');
  const file = at('items.jsonl');
  await writeFile(file, '{"query":"4 + 5 =","choices":["9","7"],"gold":0}\n');
  const request = { models: [model], texts: [PYTHON], tasks: [file], ...SHAPE };
  const [[withBos], [plain]] = [await evaluateModels(request), await evaluateModels({ ...request, bos: false })];
  expect(withBos!.perplexity[0]).toEqual({ text: PYTHON, ...(await perplexity({ model, text: PYTHON, ...SHAPE })) });
  expect(withBos!.perplexity[0]).toMatchObject({ tokenCount: 48, protocol: { leadingTokens: [1] } });
  expect(plain!.perplexity[0]!.tokenCount).toBe(46);
  const asPlain = await evaluateModels({ ...request, models: [SHORT_LLAMA] });
  expect(plain!.perplexity[0]).toEqual(asPlain[0]!.perplexity[0]);
  expect(plain!.tasks[0]!.goldNll).toBe(asPlain[0]!.tasks[0]!.goldNll);
  expect(withBos!.tasks[0]!.goldNll).not.toBe(plain!.tasks[0]!.goldNll);
  expect([withBos, plain].map((one) => one!.tasks[0]!.protocol.bos)).toEqual([true, false]);
  const pairs = [{ context: '4 + 5 =', continuation: ' 9' }];
  const [[first], [second]] = [
    await logLikelihoods({ model, pairs }),
    await logLikelihoods({ model, pairs, bos: false }),
  ];
  expect(-first!.logLikelihood).toBeCloseTo(withBos!.tasks[0]!.goldNll, 4);
  expect(-second!.logLikelihood).toBeCloseTo(plain!.tasks[0]!.goldNll, 4);
});
