import { createHash } from 'node:crypto';
import { mkdir, readdir, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { ModelFormatError, OptionError } from '../../src/errors.js';
import { applyRecipe, nodePlatform, prune } from '../../src/node.js';
import { bytesSource } from '../../src/onnx/memory-folder.js';
import type { TensorHandle } from '../../src/onnx/onnx-model.js';
import { readSafetensors, writeSafetensors } from '../../src/onnx/safetensors.js';
import { bytesHandle, floatsHandle } from '../../src/onnx/tensor-handle.js';
import { resolvePair, writePair } from '../../src/storage/json-with-tensors.js';
import { copyShortLlama } from '../support/short-llama.js';
import { listFiles, useTemporaryFolder } from '../support/temporary-folder.js';

const folder = useTemporaryFolder();
const at = (path: string) => join(folder(), path);

async function pruneWithRecipe(method: string, inputSteps = 0) {
  const model = await copyShortLlama(at('in'));
  const calibration = { windowCount: 2, windowLength: 24, generate: false };
  const shared = { sparsity: 0.3, calibration, certify: false, evaluation: false, report: false };
  await prune({ ...shared, model, out: at('out'), method, inputSteps, recipe: at('recipe') });
  return model;
}

async function contents(path: string): Promise<Record<string, string>> {
  const read = async (file: string) =>
    [
      file,
      createHash('sha256')
        .update(await readFile(join(path, file)))
        .digest('hex'),
    ] as const;
  return Object.fromEntries(await Promise.all((await listFiles(path)).map(read)));
}

describe('a recipe', () => {
  it.each([
    ['obc', 0],
    ['obc', 1],
    ['flap', 0],
  ])(
    'gives the same bytes (%s, %i input steps)',
    async (method, inputSteps) => {
      await pruneWithRecipe(method, inputSteps);
      expect(await listFiles(at('recipe'))).toEqual(['recipe.json', 'recipe.safetensors']);
      const model = await copyShortLlama(at('copy'));
      const applied = await applyRecipe({ model, recipe: at('recipe'), out: at('again') });
      expect(await contents(at('again'))).toEqual(await contents(at('out')));
      const { result, modules } = JSON.parse(await readFile(at('recipe/recipe.json'), 'utf8'));
      expect(applied.sha256).toBe(result.sha256);
      // A call that was killed after the final rename finds its result again, unless it is damaged.
      const again = { model, recipe: at('recipe'), out: at('again') };
      await mkdir(at('again.partial'));
      await writeFile(at('again.partial/run.lock'), JSON.stringify({ pid: 2 ** 30, host: hostname() }));
      const { sideFiles, ...found } = applied;
      expect(sideFiles?.copied).toContain('tokenizer.json');
      expect(await applyRecipe(again)).toEqual(found);
      expect(await readdir(folder())).not.toContain('again.partial');
      const tokenizer = await readFile(at('again/tokenizer.json'));
      await rm(at('again/tokenizer.json'));
      await expect(applyRecipe(again)).rejects.toThrow('exists');
      await writeFile(at('again/tokenizer.json'), tokenizer);
      expect(await applyRecipe(again)).toEqual(found);
      await truncate(at('again/onnx/model.onnx'), 2000);
      await expect(applyRecipe(again)).rejects.toThrow('onnx/model.onnx in it has 2000 bytes');
      expect(modules).toHaveLength(4);
    },
    120_000,
  );

  it('is refused for another model, and when damaged, naming file and tensor', async () => {
    const model = await pruneWithRecipe('flap');
    const apply = (from = model) => applyRecipe({ model: from, recipe: at('recipe/recipe.json'), out: at('again') });
    const json = at('recipe/recipe.json');
    const recipe = JSON.parse(await readFile(json, 'utf8'));
    const other = await copyShortLlama(at('other'), (proto) => {
      proto.producerName = 'another';
    });
    await expect(apply(other)).rejects.toThrow(OptionError);
    await expect(apply(other)).rejects.toThrow(recipe.model.sha256);
    const change = async (edit: (copy: typeof recipe) => void) => {
      const copy = structuredClone(recipe);
      edit(copy);
      await writeFile(json, JSON.stringify(copy));
    };
    await change((copy) => copy.modules[1].keep.push(1));
    await expect(apply()).rejects.toThrow(/recipe\.json: modules\[1\] has no/);
    await change((copy) => Object.assign(copy, { result: null }));
    await expect(apply()).rejects.toThrow(/recipe\.json: result is null, expected an object/);
    const whole = await readFile(at('recipe/recipe.safetensors'));
    const rewriteTensors = async (edit: (name: string, handle: TensorHandle) => [string, TensorHandle]) => {
      const tensors = await readSafetensors(bytesSource('recipe', whole));
      const edited = new Map([...tensors].map((entry) => edit(...entry)));
      const place = resolvePair(nodePlatform.files, 'recipe', at('recipe'));
      await writePair(nodePlatform, place, { json: recipe, tensors: edited });
    };
    await rewriteTensors((name, handle) => [`${name}/other`, handle]);
    await expect(apply()).rejects.toThrow(
      /recipe\.safetensors: tensor ".*\/other" is not a weight of the pruned model/,
    );
    await rewriteTensors((name) => [name, floatsHandle({ dataType: 11, dims: [2] }, Float64Array.of(1, 2))]);
    await expect(apply()).rejects.toThrow(/recipe\.safetensors: tensor ".*" is double\[2\], expected float\[/);
    for (const value of [Number.NaN, Number.POSITIVE_INFINITY]) {
      const filled = ({ dataType, dims, byteLength }: TensorHandle) =>
        floatsHandle({ dataType, dims }, new Float64Array(byteLength / 4).fill(value));
      await rewriteTensors((name, handle) => [name, filled(handle)]);
      await expect(apply()).rejects.toThrow(/recipe\.safetensors: tensor ".*" has no finite number at position 0/);
    }
    await writeFile(at('recipe/recipe.safetensors'), whole);
    await change((copy) => copy.modules[0].keep.shift());
    await expect(apply()).rejects.toThrow(ModelFormatError);
    await change(() => {});
    await truncate(at('recipe/recipe.safetensors'), 2000);
    await expect(apply()).rejects.toThrow(/recipe\.safetensors: tensor ".*" ends at byte/);
    expect(await listFiles(folder())).not.toContainEqual(expect.stringMatching(/^again/));
  }, 120_000);
});

describe('safetensors', () => {
  it('are read as they were written, wide types first, and refused when damaged', async () => {
    const chunks: Uint8Array[] = [];
    const tensors = new Map([
      ['half', bytesHandle({ dataType: 10, dims: [3] }, new Uint8Array([1, 2, 3, 4, 5, 6]))],
      ['wide', bytesHandle({ dataType: 11, dims: [1] }, new Uint8Array(8).fill(7))],
    ]);
    await writeSafetensors({ write: async (bytes) => void chunks.push(bytes.slice()) }, tensors);
    const bytes = Buffer.concat(chunks);
    const header = bytes.readBigUInt64LE(0);
    expect(header % 8n).toBe(0n);
    expect(bytes.subarray(8 + Number(header), 16 + Number(header))).toEqual(Buffer.alloc(8, 7));
    const back = await readSafetensors(bytesSource('a', bytes));
    expect([...(await back.get('half')!.read())]).toEqual([1, 2, 3, 4, 5, 6]);
    expect(back.get('wide')).toMatchObject({ dataType: 11, dims: [1] });
    for (const cut of [0, 7, 20, bytes.length - 1])
      await expect(readSafetensors(bytesSource('a', bytes.subarray(0, cut)))).rejects.toThrow(ModelFormatError);
    const lying = Buffer.from(bytes.toString('latin1').replace('"shape":[3]', '"shape":[4]'), 'latin1');
    await expect(readSafetensors(bytesSource('a', lying))).rejects.toThrow(/a: tensor "half" has 6 bytes/);
    const longer = Buffer.concat([bytes, Buffer.alloc(1)]);
    await expect(readSafetensors(bytesSource('a', longer))).rejects.toThrow(ModelFormatError);
  });
});
