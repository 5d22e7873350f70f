import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fromBinary, toBinary } from '@bufbuild/protobuf';
import { ModelProtoSchema } from 'onnx-buf';
import { OptionError, UnsupportedModelError } from '../../src/errors.js';
import { applyRecipe, heal, openModelFolder, prune, quantize } from '../../src/node.js';
import { codesBehind } from '../../src/quantisation/coded-handle.js';
import type { DtypeName } from '../../src/quantisation/dtypes.js';
import { buildDecoder } from '../support/small-decoder.js';
import { useTemporaryFolder } from '../support/temporary-folder.js';
import { copyTinyLlama } from '../support/tiny-llama.js';

const folder = useTemporaryFolder();
const at = (path: string) => join(folder(), path);
const nothing = { method: 'magnitude', modules: 'ffn', rounding: 'nearest' } as const;

async function quantised(dtype: DtypeName): Promise<string> {
  const model = await copyTinyLlama(at('in'));
  await quantize({ model, out: at('q'), dtype, rounding: 'nearest', certify: false, report: false });
  return at('q');
}

/** Codes of a folder's weights by name. */
async function readCodes(path: string) {
  const opened = await openModelFolder(path);
  const { weights } = await opened.load();
  const codes = [...weights].flatMap(([name, handle]) => {
    const coded = codesBehind(handle);
    return coded === undefined ? [] : [[name, coded] as const];
  });
  const read = await Promise.all(codes.map(async ([name, { stored }]) => [name, await stored!.codes.read()] as const));
  await opened.close();
  return new Map(read);
}

it('gives the same bytes where nothing is removed, however the file is laid out', async () => {
  const model = await quantised('q4');
  const file = 'onnx/model_q4.onnx';
  const own = await readFile(join(model, file));
  // As exporters do it: fields in the order of their numbers.
  const laidOut = toBinary(ModelProtoSchema, fromBinary(ModelProtoSchema, own));
  expect(own.equals(laidOut)).toBe(false);
  await writeFile(join(model, file), laidOut);
  const report = await prune({ ...nothing, model, out: at('out'), sparsity: 0 });
  expect((await readFile(at(`out/${file}`))).equals(laidOut)).toBe(true);
  expect(report.bytes).toEqual({ before: laidOut.byteLength, after: laidOut.byteLength });
  expect(report.certificate!.gap).toBeLessThan(1e-5);
}, 240_000);

it('prunes what was read from codes, and keeps the codes of the rows that stay', async () => {
  const model = await quantised('q4');
  const report = await prune({ ...nothing, model, out: at('out'), sparsity: 0.3, widthMultiple: 32 });
  expect(report.certificate!.gap).toBeLessThan(1e-5);
  expect(report.bytes.after).toBeLessThan(0.85 * report.bytes.before);
  expect(report.remarks.join()).toMatch(/^6 of 43 quantised weights were rounded anew/);
  const [before, after] = [await readCodes(model), await readCodes(at('out'))];
  const gate =
    [...before.keys()].find((name) => /gate/.test(name)) ??
    [...before.keys()].find((name) => after.get(name)!.length < before.get(name)!.length)!;
  const { keep } = report.modules.find(({ kind }) => kind === 'ffn')!;
  const rowBytes = before.get(gate)!.length / 512;
  const kept = keep!.flatMap((row) => [...before.get(gate)!.subarray(row * rowBytes, (row + 1) * rowBytes)]);
  expect([...after.get(gate)!]).toEqual(kept);
}, 240_000);

it('prunes a model whose activations are rounded as they come, and writes it in its form', async () => {
  const model = await quantised('uint8');
  const report = await prune({ ...nothing, model, out: at('out'), sparsity: 0.3 });
  expect(report.certificate!.passed).toBe(true);
  expect(report.bytes.after).toBeLessThan(0.9 * report.bytes.before);
  expect(report.remarks.join()).toMatch(/written as uint8/);
}, 240_000);

describe('a float model beside a quantised one', () => {
  const small = async () => {
    await mkdir(at('dense/onnx'), { recursive: true });
    await writeFile(at('dense/onnx/model.onnx'), buildDecoder());
    await writeFile(at('dense/config.json'), '{}');
    return at('dense');
  };
  const form = { dtype: 'q4', blockSize: 16, rounding: 'nearest' } as const;

  it('is pruned in its place, and written in its form', async () => {
    const dense = await small();
    await quantize({ ...form, model: dense, out: at('q') });
    const cut = { ...nothing, sparsity: 0.3, widthMultiple: 1 } as const;
    const report = await prune({ ...cut, model: at('q'), weightsFrom: dense, out: at('from') });
    expect(report.settings).toMatchObject({ weightsFrom: dense });
    expect(report.remarks.join()).toMatch(/ quantised weights were rounded anew, .* taken from a float model/);
    expect(report.certificate!.gap).toBeLessThan(1e-5);
    // As if the float model had been pruned, and quantised afterwards.
    await prune({ ...cut, ...form, model: dense, out: at('after') });
    expect(await readCodes(at('from'))).toEqual(await readCodes(at('after')));
    await prune({ ...cut, model: at('q'), out: at('own') });
    expect(await readCodes(at('own'))).not.toEqual(await readCodes(at('after')));
  });

  it('gives even levels to rows that are no whole blocks of a table any more', async () => {
    await quantize({ ...form, dtype: 'bnb4', model: await small(), out: at('q') });
    const cut = { ...nothing, modules: 'attention', sparsity: 0.3 } as const;
    const report = await prune({ ...cut, model: at('q'), out: at('out') });
    expect(report.modules[0]!.unitsAfter).toBe(3);
    expect(report.certificate!.gap).toBeLessThan(1e-5);
    const opened = await openModelFolder(at('out'));
    const grids = [...(await opened.load()).weights.values()].flatMap((handle) => codesBehind(handle)?.grid ?? []);
    await opened.close();
    expect(grids.filter(({ bits }) => bits === 4).map(({ levels }) => levels)).toContain(undefined);
    expect(grids.map(({ levels }) => levels)).toContain('nf4');
  });

  it('is asked for where weights are trained, or a recipe is applied', async () => {
    const dense = await small();
    await quantize({ ...form, model: dense, out: at('q') });
    const healed = (teacher: string, student: string) => heal({ dense: teacher, pruned: student, out: at('no') });
    await expect(healed(dense, at('q'))).rejects.toThrow(UnsupportedModelError);
    await expect(healed(dense, at('q'))).rejects.toThrow(/q holds quantised weights; .* quantise the result$/);
    await expect(healed(at('q'), dense)).rejects.toThrow(/q holds quantised weights; .* give the float model/);
    const cut = { ...nothing, sparsity: 0.3, widthMultiple: 1, dryRun: true, recipe: at('recipe') } as const;
    const { remarks } = await prune({ ...cut, model: at('q') });
    expect(remarks.join()).toContain('no recipe was written: the model holds quantised weights');
    await prune({ ...cut, model: dense });
    const applied = applyRecipe({ recipe: at('recipe'), model: at('q'), out: at('no') });
    await expect(applied).rejects.toThrow(/q holds quantised weights; .* give the float model/);
  });

  it('is refused where it is of no use', async () => {
    const dense = await small();
    await quantize({ ...form, model: dense, out: at('q') });
    const asked = (model: string, weightsFrom: string) =>
      prune({ ...nothing, sparsity: 0, model, weightsFrom, out: at('no') });
    await expect(asked(dense, dense)).rejects.toThrow(OptionError);
    await expect(asked(dense, dense)).rejects.toThrow(/^weightsFrom has no effect: the model holds floats itself/);
    await expect(asked(at('q'), at('q'))).rejects.toThrow(/^weightsFrom: .* has no float weight \[/);
  });
});
