import { execFileSync, spawn } from 'node:child_process';
import { cp, rm, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { readPipe } from '../../src/node/node-files.js';
import { describe as describeModel, evaluateModels, perplexity } from '../../src/node.js';
import { useTemporaryFolder } from '../support/temporary-folder.js';
import { TINY_LLAMA } from '../support/tiny-llama.js';

const folder = useTemporaryFolder();
const onUnix = process.platform === 'win32' ? it.skip : it;

/** A copy of the model with one file replaced by `put`. */
async function modelWith(file: string, put: (path: string) => Promise<void> | void): Promise<string> {
  const model = join(folder(), 'model');
  await cp(TINY_LLAMA, model, { recursive: true });
  await rm(join(model, file), { force: true });
  await put(join(model, file));
  return model;
}

const pipe = (path: string): void => void execFileSync('mkfifo', [path]);
const device = (path: string): Promise<void> => symlink('/dev/zero', path);

onUnix.each(['config.json', 'tokenizer.json', 'generation_config.json'])(
  'refuses %s that is a pipe or a device',
  async (file) => {
    for (const put of [pipe, device]) {
      const model = await modelWith(file, put);
      await expect(describeModel({ model })).rejects.toMatchObject({
        code: 'ERR_MODEL_FORMAT',
        message: expect.stringContaining('not a file but a pipe, a socket or a device'),
      });
      await rm(model, { recursive: true });
    }
  },
);

onUnix('refuses a model that is a pipe or a device', async () => {
  for (const put of [pipe, device]) {
    const model = await modelWith('onnx/model.onnx', put);
    await expect(describeModel({ model })).rejects.toMatchObject({
      code: expect.stringMatching(/OPTION|MODEL_FORMAT/),
    });
    await expect(describeModel({ model: join(model, 'onnx/model.onnx') })).rejects.toMatchObject({
      code: expect.stringMatching(/OPTION|MODEL_FORMAT/),
    });
    await rm(model, { recursive: true });
  }
});

onUnix('refuses tasks that are pipes and texts that are devices', async () => {
  const path = join(folder(), 'pipe.jsonl');
  pipe(path);
  for (const request of [{ texts: ['/dev/zero'] }, { tasks: [path] }]) {
    await expect(evaluateModels({ models: [TINY_LLAMA], ...request })).rejects.toMatchObject({
      code: 'ERR_OPTION',
      message: expect.stringContaining('not a file but a pipe, a socket or a device'),
    });
  }
});

onUnix('reads a pipe to its end, and throws if it gives no data', async () => {
  const path = join(folder(), 'pipe.txt');
  pipe(path);
  const writer = spawn('sh', ['-c', `(sleep 0.2; printf once; sleep 0.2; printf ' more') > ${path}`]);
  expect(new TextDecoder().decode(await readPipe(path))).toBe('once more');
  expect(writer.exitCode).not.toBe(1);
  await expect(readPipe(path, 50)).rejects.toMatchObject({
    code: 'ERR_MODEL_FORMAT',
    message: expect.stringContaining('a pipe that gave no data'),
  });
});

it('refuses a tokenizer.json that is nested too deep', async () => {
  const deep = '['.repeat(100_000);
  const model = await modelWith('tokenizer.json', (path) =>
    writeFile(path, `{"model": ${deep}${deep.replaceAll('[', ']')}}`),
  );
  await expect(perplexity({ model, content: 'the king' })).rejects.toMatchObject({
    code: 'ERR_MODEL_FORMAT',
    message: expect.stringContaining('nested deeper than 100'),
  });
});
