import { cp, mkdir, readdir, readFile, symlink, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { ModelFormatError, OptionError, UnsupportedModelError } from '../../src/errors.js';
import { type JobControl, type ModelFolder, nodePlatform, openModelFolder, STAGES, withJob } from '../../src/node.js';
import type { OnnxModel } from '../../src/onnx/onnx-model.js';
import type { SaveInput } from '../../src/pipeline/stage-save.js';
import type { OutputRequest } from '../../src/runtime/platform.js';
import { encode, externalIn, floatTensor, rawFloats, smallModel } from '../onnx/small-model.js';
import { listFiles, useTemporaryFolder } from '../support/temporary-folder.js';

const { buildFolder, checkOutput } = nodePlatform.files;
const folder = useTemporaryFolder();
const at = (path: string) => join(folder(), path);

async function put(files: Readonly<Record<string, string | Uint8Array>>) {
  for (const [path, content] of Object.entries(files)) {
    await mkdir(dirname(at(path)), { recursive: true });
    await writeFile(at(path), content);
  }
}

/** Fills a folder that appears when it is complete. */
function writeModelFolder(
  model: OnnxModel,
  source: ModelFolder,
  { output, force, signal, onProgress, documents = {}, layout }: WriteOptions,
) {
  const input = { model, source, documents, ...(layout && { layout }) };
  return withJob(nodePlatform, { signal, onProgress }, (context) =>
    buildFolder({ output, source: source.root, force }, (partial) =>
      STAGES.save.run(context, { ...input, folder: partial }),
    ),
  );
}

type WriteOptions = JobControl & Partial<Pick<SaveInput, 'documents' | 'layout'>> & Omit<OutputRequest, 'source'>;

const bytes = encode(smallModel());
const externalBytes = encode(
  smallModel({ initializer: [{ name: 'e', dataType: 1, dims: [2n], ...externalIn({ location: 'model.onnx_data' }) }] }),
);

/** A transformers.js folder with more in it than a pruned copy should have. */
const fullFolder = {
  'in/config.json': '{"hidden_size": 4}',
  'in/tokenizer.json': '{}',
  'in/LICENSE': 'free',
  'in/additional_chat_templates/chat.jinja': 'hi',
  'in/onnx/model.onnx': externalBytes,
  'in/onnx/model.onnx_data': rawFloats([5, 6]),
  'in/onnx/model_q4.onnx': 'q4',
  'in/onnx/model_q4.onnx_data_1': 'q4',
  'in/model.safetensors': 'dense',
  'in/.git/config': 'git',
  'in/.gitattributes': 'lfs',
  'in/README.md': 'dense',
  'in/tasks/a.jsonl': '{}',
  'in/text/a.txt': 'a',
};

describe('openModelFolder', () => {
  it('finds transformers.js and genai folders, and files', async () => {
    await put({
      't/onnx/model.onnx': bytes,
      't/onnx/model_fp16.onnx': bytes,
      't/config.json': '{"a": 1}',
      'g/model.onnx': bytes,
      'g/genai_config.json': '{}',
    });
    const locate = async (path: string, file?: string) => {
      const found = await openModelFolder(at(path), { file });
      return [found.root.slice(folder().length + 1), found.modelFile, Object.keys(found.documents)];
    };
    expect(await locate('t')).toEqual(['t', 'onnx/model.onnx', ['config.json']]);
    expect(await locate('t', 'onnx/model_fp16.onnx')).toEqual(['t', 'onnx/model_fp16.onnx', ['config.json']]);
    expect(await locate('t/onnx/model_fp16.onnx')).toEqual(['t', 'onnx/model_fp16.onnx', ['config.json']]);
    expect(await locate('g')).toEqual(['g', 'model.onnx', ['genai_config.json']]);
    expect(await locate('g/model.onnx')).toEqual(['g', 'model.onnx', ['genai_config.json']]);
  });

  it('loads the model and its external data', async () => {
    await put(fullFolder);
    const source = await openModelFolder(at('in'));
    expect(source.documents['config.json']).toEqual({ hidden_size: 4 });
    const model = await source.load();
    expect(await model.weights.get('e')!.read()).toEqual(rawFloats([5, 6]));
    await source.close();
  });

  it('finds decoders next to models of other parts', async () => {
    await put({
      'vlm/onnx/decoder_model_merged.onnx': bytes,
      'vlm/onnx/decoder_model.onnx': bytes,
      'vlm/onnx/vision_encoder.onnx': bytes,
      'whisper/onnx/decoder_model_merged.onnx': bytes,
      'whisper/onnx/encoder_model.onnx': bytes,
      'phi/text.onnx': bytes,
      'phi/genai_config.json': '{"model": {"decoder": {"filename": "text.onnx"}}}',
      'climbing/own.onnx': bytes,
      'climbing/genai_config.json': '{"model": {"decoder": {"filename": "../phi/text.onnx"}}}',
    });
    expect(await openModelFolder(at('vlm'))).toMatchObject({ modelFile: 'onnx/decoder_model_merged.onnx' });
    expect(await openModelFolder(at('phi'))).toMatchObject({ modelFile: 'text.onnx' });
    await expect(openModelFolder(at('whisper'))).rejects.toThrow(/has onnx\/decoder_model_merged.onnx/);
    expect(await openModelFolder(at('climbing'))).toMatchObject({ modelFile: 'own.onnx' });
  });

  it('finds embedding models', async () => {
    const embeddingsOf = async (path: string, embeddings?: string) =>
      (await openModelFolder(at(path), { embeddings })).embeddings?.slice(folder().length + 1);
    await put({
      'some/onnx/decoder_model_merged.onnx': bytes,
      'some/onnx/decoder_model_merged_fp16.onnx': bytes,
      'some/onnx/embed_tokens.onnx': bytes,
      'some/onnx/embed_tokens_fp16.onnx': bytes,
      'some/onnx/embed_tokens_q4.onnx': bytes,
      'few/onnx/decoder_model_merged.onnx': bytes,
      'few/onnx/embed_tokens_q4.onnx': bytes,
      'few/onnx/embed_tokens_fp16.onnx': bytes,
      'few/onnx/embed_tokens_fp16.onnx_data': bytes,
      'genai/model.onnx': bytes,
      'genai/embed.onnx': bytes,
      'genai/genai_config.json': '{"model": {"embedding": {"filename": "embed.onnx"}}}',
      'none/model.onnx': bytes,
      'gone/model.onnx': bytes,
      'gone/genai_config.json': '{"model": {"embedding": {"filename": "embed.onnx"}}}',
      'climbing/model.onnx': bytes,
      'climbing/genai_config.json': '{"model": {"embedding": {"filename": "../genai/embed.onnx"}}}',
    });
    expect(await embeddingsOf('some')).toBe('some/onnx/embed_tokens.onnx');
    expect(await embeddingsOf('some/onnx/decoder_model_merged_fp16.onnx')).toBe('some/onnx/embed_tokens_fp16.onnx');
    expect(await embeddingsOf('few')).toBe('few/onnx/embed_tokens_fp16.onnx');
    expect(await embeddingsOf('genai')).toBe('genai/embed.onnx');
    expect(await embeddingsOf('none')).toBeUndefined();
    expect(await embeddingsOf('gone')).toBeUndefined();
    expect(await embeddingsOf('some', at('genai/embed.onnx'))).toBe('genai/embed.onnx');
    await expect(embeddingsOf('climbing')).rejects.toThrow(/not a path inside the folder/);
    await expect(embeddingsOf('some', at('none/embed.onnx'))).rejects.toThrow(/there is no such .onnx file/);
    await expect(embeddingsOf('some', 7 as never)).rejects.toThrow(/embeddings is 7; expected the path of a file/);
  });

  it('names the files that it looked for', async () => {
    await put({ 'c/decoder_model_merged.onnx': bytes, 'c/decoder_with_past_model.onnx': bytes, 'e/readme': '' });
    await expect(openModelFolder(at('missing'))).rejects.toThrow(OptionError);
    await expect(openModelFolder(at('c'))).rejects.toThrow(
      /onnx\/model.onnx and model.onnx.*decoder_model_merged.onnx/,
    );
    await expect(openModelFolder(at('c'), { file: 'x.onnx' })).rejects.toThrow(/looked for x.onnx/);
    await expect(openModelFolder(at('e'))).rejects.toThrow(/has no .onnx file/);
    await expect(openModelFolder(at('e/readme'))).rejects.toThrow(OptionError);
  });

  it.each([
    [['onnx/model_fp16.onnx'], 'onnx/model_fp16.onnx'],
    [['onnx/model_q4.onnx'], 'onnx/model_q4.onnx'],
    [['onnx/model_q4.onnx', 'onnx/model_fp16.onnx', 'onnx/model_q4f16.onnx'], 'onnx/model_fp16.onnx'],
    [['model_fp16.onnx', 'onnx/model_fp16.onnx', 'onnx/model_fp32.onnx'], 'onnx/model_fp32.onnx'],
    [['onnx/decoder_model_merged_fp16.onnx', 'onnx/embed_tokens_fp16.onnx'], 'onnx/decoder_model_merged_fp16.onnx'],
    [['prefix/x.onnx', 'llama.onnx'], 'llama.onnx'],
  ])('chooses the decoder of the best precision from %j', async (files, chosen) => {
    await put(Object.fromEntries(files.map((path) => [`v/${path}`, bytes])));
    const found = await openModelFolder(at('v'));
    expect(found.modelFile).toBe(chosen);
  });

  it('chooses the model of the most bits if all are quantised', async () => {
    await put({ 'q/onnx/model_q4.onnx': bytes, 'q/onnx/model_int8.onnx': bytes });
    expect((await openModelFolder(at('q'))).modelFile).toBe('onnx/model_int8.onnx');
  });

  it.each([
    [{ 'encoder_model.onnx': bytes, 'decoder_model.onnx': bytes }, /encoder-decoder: it has decoder_model.onnx, enc/],
    [{ 'onnx/encoder_model_q8.onnx': bytes, 'onnx/decoder_model_merged_q8.onnx': bytes }, /is an encoder-decoder/],
    [
      { 'x.onnx': bytes, 'config.json': '{"is_encoder_decoder": true, "model_type": "t5"}' },
      /is_encoder_decoder.*\(t5\)/,
    ],
    [
      { 'd.onnx': bytes, 'e.onnx': bytes, 'genai_config.json': '{"model": {"type": "whisper", "encoder": {}}}' },
      /genai_config.json has an encoder next to its decoder \(whisper\)/,
    ],
  ])('refuses an encoder-decoder %#, in a folder and by its files', async (files, message) => {
    await put(Object.fromEntries(Object.entries(files).map(([path, content]) => [`t5/${path}`, content])));
    const [first] = Object.keys(files);
    const paths = Object.keys(files).some((path) => path.endsWith('.json')) ? ['t5', `t5/${first}`] : ['t5'];
    for (const path of paths) {
      await expect(openModelFolder(at(path))).rejects.toThrow(UnsupportedModelError);
      await expect(openModelFolder(at(path))).rejects.toThrow(message);
    }
  });

  it.each(['{', '[1]', 'null', ''])('refuses a config.json of %j, naming it', async (text) => {
    await put({ 'm/model.onnx': bytes, 'm/config.json': text });
    await expect(openModelFolder(at('m'))).rejects.toThrow(ModelFormatError);
    await expect(openModelFolder(at('m'))).rejects.toThrow(/config\.json/);
  });
});

describe('checkOutput', () => {
  it('accepts a new folder, also in folders that do not exist yet', async () => {
    await put({ 'in/x': '' });
    expect(await checkOutput({ output: at('a/b/c'), source: at('in') })).toBe(at('a/b/c'));
    expect(await checkOutput({ output: at('in-pruned'), source: at('in') })).toBe(at('in-pruned'));
    expect(await checkOutput({ output: at('..out'), source: at('in') })).toBe(at('..out'));
    expect(await readdir(folder())).toEqual(['in']);
  });

  it('refuses existing folders, and places in or around the model', async () => {
    await put({ 'in/x': '', 'old/x': '', file: '' });
    await symlink('in', at('link'));
    const check = (output: string, force = false) => checkOutput({ output, source: at('in'), force });
    for (const force of [false, true])
      await expect(check(at('old'), force)).rejects.toThrow('holds x, and no fang-prune-files.json');
    await mkdir(at('empty'));
    expect(await check(at('empty'), true)).toBe(at('empty'));
    for (const path of ['in', 'in/out', 'link/out', 'file', 'file/out', '.']) {
      await expect(check(at(path), true)).rejects.toThrow(OptionError);
    }
    await expect(check('')).rejects.toThrow(OptionError);
  });

  it('refuses a place where no folder can be created', async () => {
    if (process.platform !== 'linux') return;
    await expect(checkOutput({ output: '/proc/out', source: folder() })).rejects.toThrow(
      /no folder can be created in \/proc/,
    );
  });
});

describe('the save stage', () => {
  const open = async () => {
    await put(fullFolder);
    const source = await openModelFolder(at('in'));
    return { source, model: await source.load() };
  };

  it('copies models of other parts in all their variants', async () => {
    const companions = [
      'onnx/audio_encoder_fp16.onnx_data',
      'onnx/embed_tokens.onnx',
      'onnx/embed_tokens_q4f16.onnx',
      'onnx/vision_encoder.onnx',
      'onnx/vision_encoder.onnx_data_1',
      'speech.onnx.data',
    ];
    const variants = [
      'decoder_with_past.onnx.data',
      'model.onnx',
      'onnx/decoder_model.onnx',
      'onnx/decoder_model_merged_q4.onnx',
      'onnx/decoder_model_merged_q4.onnx_data',
      'onnx/decoder_with_past_model_int8.onnx',
    ];
    const own = { 'onnx/decoder_model_merged.onnx': bytes, 'config.json': '{}' };
    const others = Object.fromEntries([...companions, ...variants].map((path) => [path, 'x']));
    const files = Object.entries({ ...own, ...others });
    await put(Object.fromEntries(files.map(([path, content]) => [`vlm/${path}`, content])));
    const source = await openModelFolder(at('vlm/onnx/decoder_model_merged.onnx'));
    const written = await writeModelFolder(await source.load(), source, { output: at('out') });
    await source.close();
    expect(await listFiles(at('out'))).toEqual([...companions, ...Object.keys(own), 'fang-prune-files.json'].sort());
    expect(written.leftOut).toEqual(variants);
  });

  it('copies side files of the model, but not its other variants', async () => {
    const { source, model } = await open();
    const written = await writeModelFolder(model, source, {
      output: at('out'),
      documents: { 'config.json': { hidden_size: 3 } },
    });
    await source.close();
    expect(await listFiles(at('out'))).toEqual([
      'LICENSE',
      'additional_chat_templates/chat.jinja',
      'config.json',
      'fang-prune-files.json',
      'onnx/model.onnx',
      'onnx/model.onnx_data',
      'tokenizer.json',
    ]);
    expect(written).toMatchObject({ copied: ['LICENSE', 'additional_chat_templates/chat.jinja', 'tokenizer.json'] });
    expect(written.leftOut).toEqual([
      ...['.git/', '.gitattributes', 'README.md', 'model.safetensors', 'onnx/model_q4.onnx'],
      ...['onnx/model_q4.onnx_data_1', 'tasks/', 'text/'],
    ]);
    expect(await readFile(at('out/config.json'), 'utf8')).toBe('{\n  "hidden_size": 3\n}\n');
    const again = await openModelFolder(at('out'));
    expect(await (await again.load()).weights.get('e')!.read()).toEqual(rawFloats([5, 6]));
    await again.close();
  });

  it('copies files that genai_config.json and other parts name, except hidden and unknown ones', async () => {
    const data = (location: string) =>
      encode(smallModel({ initializer: [{ name: 'e', dataType: 1, dims: [2n], ...externalIn({ location }) }] }));
    const genai = {
      model: {
        decoder: { filename: 'text.onnx', session_options: { custom_ops_library: 'ops.so' } },
        vision: { filename: 'parts/sight.onnx', config_filename: 'sight_processing.json' },
        speech: { filename: '.hidden/speech.onnx', config_filename: 'credentials.json' },
      },
    };
    await put({
      'phi/genai_config.json': JSON.stringify(genai),
      'phi/text.onnx': bytes,
      'phi/parts/sight.onnx': data('weights/sight.bin'),
      'phi/parts/weights/sight.bin': rawFloats([5, 6]),
      'phi/embed_tokens.onnx': data('embedded.bin'),
      'phi/embedded.bin': rawFloats([5, 6]),
      'phi/audio_encoder.onnx': data('.ssh/id_rsa'),
      'phi/.ssh/id_rsa': rawFloats([5, 6]),
      'phi/.hidden/speech.onnx': bytes,
      'phi/sight_processing.json': '{}',
      'phi/credentials.json': '{}',
      'phi/ops.so': 'code',
      'phi/other.onnx': data('data.bin'),
      'phi/data.bin': rawFloats([5, 6]),
    });
    const source = await openModelFolder(at('phi'));
    const written = await writeModelFolder(await source.load(), source, { output: at('out') });
    await source.close();
    expect(written.copied).toEqual([
      ...['audio_encoder.onnx', 'embed_tokens.onnx', 'embedded.bin', 'genai_config.json', 'parts/sight.onnx'],
      ...['parts/weights/sight.bin', 'sight_processing.json'],
    ]);
    expect(written.leftOut).toEqual([
      ...['.hidden/', '.ssh/', 'credentials.json', 'data.bin', 'ops.so', 'other.onnx', 'parts/weights/'],
    ]);
  });

  it('copies no file that a link leads to outside the folder', async () => {
    await put({ ...fullFolder, 'secret/key': 'mine' });
    await symlink(at('secret/key'), at('in/vocab.json'));
    await symlink(at('secret/key'), at('in/additional_chat_templates/key.jinja'));
    await symlink('LICENSE', at('in/COPYING'));
    const source = await openModelFolder(at('in'));
    const written = await writeModelFolder(await source.load(), source, { output: at('out') });
    await source.close();
    expect(written).toMatchObject({
      copied: ['COPYING', 'LICENSE', 'additional_chat_templates/chat.jinja', 'config.json', 'tokenizer.json'],
      outside: ['additional_chat_templates/key.jinja', 'vocab.json'],
    });
    expect(await listFiles(at('out'))).not.toContainEqual(expect.stringMatching(/key|vocab/));
  });

  it('copies from a snapshot of the Hub cache, whose links lead to blobs of its repository', async () => {
    await put({
      'hub/models--a--b/blobs/0': bytes,
      'hub/models--a--b/blobs/1': '{}',
      'hub/models--c--d/blobs/2': 'other',
    });
    const snapshot = 'hub/models--a--b/snapshots/0123';
    await mkdir(at(`${snapshot}/onnx`), { recursive: true });
    await symlink('../../../blobs/0', at(`${snapshot}/onnx/model.onnx`));
    for (const name of ['config.json', 'tokenizer.json']) await symlink('../../blobs/1', at(`${snapshot}/${name}`));
    await symlink('../../../models--c--d/blobs/2', at(`${snapshot}/vocab.json`));
    await symlink(at(snapshot), at('latest'));
    const source = await openModelFolder(at('latest'));
    const written = await writeModelFolder(await source.load(), source, { output: at('out') });
    await source.close();
    expect(written).toMatchObject({ copied: ['config.json', 'tokenizer.json'], outside: ['vocab.json'] });
  });

  it('throws if the model changed while in use', async () => {
    const { source } = await open();
    await source.checkUnchanged();
    await source.load();
    await source.checkUnchanged();
    await writeFile(at('in/onnx/model.onnx_data'), rawFloats([5, 7]));
    await expect(source.checkUnchanged()).rejects.toThrow(ModelFormatError);
    await expect(source.checkUnchanged()).rejects.toThrow(/model\.onnx_data changed while it was in use/);
    await source.close();
  });

  it('copies no other files of the folder for a model opened by its file', async () => {
    await put({ 'in/model.onnx': bytes, 'in/private.txt': '' });
    const source = await openModelFolder(at('in/model.onnx'));
    await writeModelFolder(await source.load(), source, { output: at('out') });
    await source.close();
    expect(await listFiles(at('out'))).toEqual(['fang-prune-files.json', 'model.onnx']);
  });

  it.each(['fails', 'is stopped'])('leaves no files if it %s in the middle', async (how) => {
    const { source, model } = await open();
    const controller = new AbortController();
    if (how === 'fails')
      model.weights.set('w', {
        dataType: 1,
        dims: [4],
        byteLength: 16,
        read: () => Promise.reject(new Error('broken')),
      });
    const writing = writeModelFolder(model, source, {
      output: at('out'),
      signal: controller.signal,
      onProgress: () => how === 'is stopped' && controller.abort(),
    });
    await expect(writing).rejects.toThrow(how === 'fails' ? 'broken' : /abort/);
    await source.close();
    expect(await readdir(folder())).toEqual(['in']);
  });

  it('replaces a folder only with force, and only when the new one is complete', async () => {
    const { source, model } = await open();
    await buildFolder({ output: at('out'), source: at('in') }, (partial) => writeFile(join(partial, 'old.txt'), 'old'));
    await expect(writeModelFolder(model, source, { output: at('out') })).rejects.toThrow(OptionError);
    const broken = {
      ...model,
      weights: new Map([
        ...model.weights,
        ['w', { dataType: 1, dims: [4], byteLength: 16, read: () => Promise.reject(new Error('broken')) }] as const,
      ]),
    };
    await expect(writeModelFolder(broken, source, { output: at('out'), force: true })).rejects.toThrow('broken');
    expect(await listFiles(at('out'))).toEqual(['fang-prune-files.json', 'old.txt']);
    await writeModelFolder(model, source, { output: at('out'), force: true });
    await source.close();
    expect(await listFiles(at('out'))).not.toContain('old.txt');
    expect((await readdir(folder())).sort()).toEqual(['in', 'out']);
  });

  it('writes the external data of the requested layout', async () => {
    await put(fullFolder);
    await cp(at('in'), at('copy'), { recursive: true });
    await put({
      'copy/onnx/model.onnx': encode(
        smallModel({ initializer: [floatTensor('big', [50_000], new Float32Array(50_000).fill(2))] }),
      ),
    });
    const source = await openModelFolder(at('copy'));
    const written = await writeModelFolder(await source.load(), source, {
      output: at('out'),
      layout: { external: {} },
    });
    await source.close();
    expect(written.files.map(({ path }) => path)).toEqual(['onnx/model.onnx', 'onnx/model.onnx_data']);
    expect(
      (await readFile(at('out/onnx/model.onnx_data'))).equals(Buffer.from(new Float32Array(50_000).fill(2).buffer)),
    ).toBe(true);
  });
});
