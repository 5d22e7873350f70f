import { copyFile, mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { OptionError } from '../../src/errors.js';
import { nodePlatform, prune, STAGES, withJob } from '../../src/node.js';
import type { Checked } from '../../src/options/option.js';
import { type CalibrationOptions, resolveCalibration } from '../../src/options.js';
import type { JobControl, Progress } from '../../src/progress.js';
import { WINDOWS_FILE } from '../../src/storage/windows-file.js';
import { testEngine } from '../support/engine.js';
import { SHORT_LLAMA } from '../support/short-llama.js';
import { useTemporaryFolder } from '../support/temporary-folder.js';

const folder = useTemporaryFolder();
const shape = { windowCount: 6, windowLength: 12 };
const unchecked = { certify: false, evaluation: false } as const;

/** Calibration windows of a model folder. `generates`: whether the method generates windows by default. */
async function calibrate(
  calibration: Checked<CalibrationOptions>,
  {
    model: path = SHORT_LLAMA,
    generates = false,
    ...control
  }: JobControl & { model?: string; generates?: boolean } = {},
) {
  return withJob(nodePlatform, control, async (context) => {
    const opened = await STAGES.open.run(context, { model: path });
    const windows = await STAGES.calibrate.run(context, {
      folder: opened,
      model: await STAGES.load.run(context, opened),
      engine: testEngine,
      calibration: resolveCalibration({ ...shape, ...calibration }, { generate: generates }),
      vocabularySize: 2048,
      seed: 0,
    });
    return { ...windows, remarks: context.remarks };
  });
}

/** The model without its tokenizer, with a config or two. */
async function bareModel(documents: Readonly<Record<string, object>>): Promise<string> {
  const root = join(folder(), 'bare');
  await mkdir(join(root, 'onnx'), { recursive: true });
  await copyFile(join(SHORT_LLAMA, 'onnx/model.onnx'), join(root, 'onnx/model.onnx'));
  for (const [name, document] of Object.entries(documents)) await writeFile(join(root, name), JSON.stringify(document));
  return root;
}

it('generates half of the windows, and writes them into the result to be read again', async () => {
  const out = join(folder(), 'out');
  const { calibration, timings } = await prune({
    model: SHORT_LLAMA,
    out,
    sparsity: 0.2,
    modules: 'ffn',
    method: 'wanda',
    calibration: { ...shape, generate: true },
    ...unchecked,
  });
  expect(calibration).toMatchObject({
    kind: 'default-text',
    windowCount: 6,
    generated: { windowCount: 3, share: 0.5, seed: 0, startToken: 0, temperature: 1, documentLength: 128 },
  });
  expect(timings.map(({ stage }) => stage)).toEqual(expect.arrayContaining(['calibrate', 'generate']));
  const file = join(out, WINDOWS_FILE);
  const again = await calibrate({ source: { file }, windowCount: 3 });
  expect(again.provenance.tokensSha256).toBe(calibration?.generated?.tokensSha256);
  // A model pruned from the result gets no copy of windows that it was not calibrated on.
  const copy = join(folder(), 'copy');
  await prune({ model: out, out: copy, sparsity: 0.2, method: 'magnitude', modules: 'ffn', ...unchecked });
  await expect(readFile(join(copy, WINDOWS_FILE))).rejects.toThrow(/ENOENT/);
});

it('generates the given share of windows, with a source or alone', async () => {
  const source = { tokens: Array.from({ length: 100 }, (_, at) => at) };
  const few = await calibrate({ source, generate: { share: 0.3, seed: 5 } });
  expect(few.windows).toHaveLength(6);
  expect(few.provenance).toMatchObject({ kind: 'tokens', windowCount: 6, generated: { windowCount: 2, seed: 5 } });
  const all = await calibrate({ generate: { share: 1, seed: 5 } });
  expect(all.provenance).toMatchObject({ kind: 'generated', windowCount: 6, generated: { windowCount: 6, share: 1 } });
  const least = await calibrate({ source, generate: { share: 0.01, seed: 5 } });
  expect(least.provenance).toMatchObject({ windowCount: 6, generated: { windowCount: 1 } });
});

it.each([
  ['a document', { windowCount: 40 }, { windowCount: 20, tokenCount: 20 * 11 }],
  ['four documents', { windowCount: 10, documentLength: 3 }, { windowCount: 5, tokenCount: 5 * 8 }],
])('resumes from a file after an abort, to the same windows of %s', async (_, writing, firstBatch) => {
  const file = join(folder(), 'windows.jsonl');
  const { windowCount, ...rest } = { documentLength: 128, ...writing };
  const generate = { share: 1, seed: 9, ...rest };
  const controller = new AbortController();
  const onProgress = ({ done }: Progress) => done > firstBatch.tokenCount && controller.abort();
  const stopped = calibrate(
    { windowCount, generate: { ...generate, file } },
    { signal: controller.signal, onProgress },
  );
  await expect(stopped).rejects.toThrow(/abort/i);
  expect((await readFile(file, 'utf8')).split('\n')).toHaveLength(1 + firstBatch.windowCount + 1);
  const resumed = await calibrate({ windowCount, generate: { ...generate, file } });
  expect(resumed).toEqual(await calibrate({ windowCount, generate }));
  const fewer = await calibrate({ windowCount: windowCount - 1, generate: { ...generate, file } });
  expect(fewer.windows).toEqual(resumed.windows.slice(0, -1));
  const seen: Progress[] = [];
  await calibrate({ windowCount, generate: { ...generate, file } }, { onProgress: (progress) => seen.push(progress) });
  // Stages begin, and nothing is left to write.
  expect(seen.filter(({ done }) => done > 0)).toEqual([]);
  await expect(calibrate({ windowCount, generate: { ...generate, file, seed: 1 } })).rejects.toThrow(
    /another run: seed 9 \(here 1\)/,
  );
});

it('needs a tokenizer only for windows of text', async () => {
  const model = await bareModel({ 'genai_config.json': { model: { bos_token_id: 3, eos_token_id: [2] } } });
  const { provenance } = await calibrate({ generate: true }, { model });
  expect(provenance).toMatchObject({ kind: 'generated', windowCount: 6, generated: { startToken: 3 } });
  await expect(calibrate({ generate: { share: 0.5 } }, { model })).rejects.toThrow(/no tokenizer/);
});

it('asks for startToken if the model names no token that begins a text', async () => {
  const model = await bareModel({});
  const attempt = calibrate({ generate: true }, { model });
  await expect(attempt).rejects.toThrow(OptionError);
  await expect(attempt).rejects.toThrow(/set calibration\.generate\.startToken/);
  const { provenance } = await calibrate({ windowCount: 2, generate: { startToken: 17 } }, { model });
  expect(provenance.generated?.startToken).toBe(17);
  await expect(calibrate({ generate: { startToken: 2048 } }, { model })).rejects.toThrow(
    /startToken is 2048; .* 0 to 2047/,
  );
});

it('calibrates on text only, with a remark, if generating by default is impossible', async () => {
  const model = await bareModel({});
  const source = { tokens: Array.from({ length: 100 }, (_, at) => at) };
  const { windows, provenance, windowsFile, remarks } = await calibrate({ source }, { model, generates: true });
  expect(windows).toHaveLength(6);
  expect(provenance.generated).toBeUndefined();
  expect(windowsFile).toBeUndefined();
  expect(remarks).toEqual([expect.stringMatching(/^calibrated on text only.*no bos_token_id/)]);
  // Without a source there is no fallback, and an explicit request must be possible.
  await expect(calibrate({}, { model, generates: true })).rejects.toThrow(/found no start token/);
  await expect(calibrate({ source, generate: true }, { model, generates: true })).rejects.toThrow(
    /found no start token/,
  );
});
