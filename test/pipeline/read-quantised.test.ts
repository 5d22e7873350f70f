import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fromBinary, toBinary } from '@bufbuild/protobuf';
import { type ModelProto, ModelProtoSchema } from 'onnx-buf';
import { OptionError, UnsupportedModelError } from '../../src/errors.js';
import { applyRecipe, heal, openModelFolder, prune, quantize } from '../../src/node.js';
import { readFloat32 } from '../../src/onnx/float-encoding.js';
import type { TensorHandle } from '../../src/onnx/onnx-model.js';
import { quantisedSource } from '../../src/quantisation/coded-handle.js';
import type { DtypeName } from '../../src/quantisation/dtypes.js';
import type { DtypeReport } from '../../src/report/report-schema.js';
import { type LinearForm, quantiseLinears, quantiseTable, roundActivations } from '../support/linear-quantiser.js';
import { copyShortLlama } from '../support/short-llama.js';
import { buildDecoder, HEAD_SIZE, HIDDEN, linear, type Part } from '../support/small-decoder.js';
import { useTemporaryFolder } from '../support/temporary-folder.js';
import { editModel } from '../support/tiny-llama.js';

const folder = useTemporaryFolder();
const at = (path: string) => join(folder(), path);
const PLAIN = { evaluation: false, method: 'magnitude', modules: 'ffn', rounding: 'nearest' } as const;

/** For models that a test quantises only to read them. */
const unchecked = { certify: false, evaluation: false, report: false } as const;

async function quantised(dtype: DtypeName): Promise<string> {
  const model = await copyShortLlama(at('in'));
  await quantize({ ...unchecked, model, out: at('q'), dtype, rounding: 'nearest' });
  return at('q');
}

/** Codes of a folder's weights by name. */
async function readCodes(path: string) {
  const opened = await openModelFolder(path);
  const { weights } = await opened.load();
  const coded = [...weights].flatMap(([name, handle]) => {
    const { codes } = quantisedSource(handle) ?? {};
    return codes === undefined
      ? []
      : [[name, codes.form === 'blocks' ? codes.stored.codes : codes.linear.codes.handle]];
  }) as [string, TensorHandle][];
  const read = await Promise.all(coded.map(async ([name, handle]) => [name, await handle.read()] as const));
  await opened.close();
  return new Map(read);
}

/** Values of a folder's weights, and the form in which its file stores them. */
async function readFloats(path: string) {
  const opened = await openModelFolder(path);
  const { weights } = await opened.load();
  const matrices = [...weights].filter(([, { dataType, dims }]) => dims.length === 2 && dataType === 1);
  const found = await Promise.all(
    matrices.map(async ([name, handle]) => {
      const { form = 'floats' } = quantisedSource(handle)?.codes ?? {};
      return [name, { dims: handle.dims, form, values: await readFloat32(handle) }] as const;
    }),
  );
  await opened.close();
  return new Map(found);
}

/** Rows and columns of a matrix. */
function cut(values: Float32Array, width: number, rows: readonly number[], columns: readonly number[]): number[] {
  return rows.flatMap((row) => columns.map((column) => values[row * width + column]!));
}

it('gives the same bytes if nothing is removed, whatever the order of protobuf fields', async () => {
  const model = await quantised('q4');
  const file = 'onnx/model_q4.onnx';
  const own = await readFile(join(model, file));
  // As exporters do it: fields in the order of their numbers.
  const laidOut = toBinary(ModelProtoSchema, fromBinary(ModelProtoSchema, own));
  expect(own.equals(laidOut)).toBe(false);
  await writeFile(join(model, file), laidOut);
  const report = await prune({ ...PLAIN, model, out: at('out'), sparsity: 0 });
  expect((await readFile(at(`out/${file}`))).equals(laidOut)).toBe(true);
  expect(report.bytes).toEqual({ before: laidOut.byteLength, after: laidOut.byteLength });
  expect(report.certificate!.gapInFloat32).toBeLessThan(1e-5);
}, 240_000);

it.each([
  { first: { dtype: 'q4', symmetric: true }, again: { dtype: 'q4' } },
  { first: { dtype: 'q4' }, again: { dtype: 'q4', rounding: 'nearest' } },
  { first: { dtype: 'q8' }, again: { dtype: 'q8' } },
] as const)('keeps the weights of $first when they are written as $again', async ({ first, again }) => {
  const model = await copyShortLlama(at('in'));
  const calibration = { windowCount: 6, windowLength: 16, generate: false } as const;
  await quantize({ ...unchecked, model, out: at('first'), rounding: 'nearest', ...first });
  const isLearned = again.dtype === 'q4' && !('rounding' in again);
  await quantize({ ...unchecked, model: at('first'), out: at('again'), ...again, ...(isLearned && { calibration }) });
  const [before, after] = [await readFloats(at('first')), await readFloats(at('again'))];
  const coded = [...before].filter(([, { form }]) => form === 'blocks');
  expect(coded.length).toBeGreaterThanOrEqual(14);
  const changed = coded.filter(
    ([name, { values }]) => !after.get(name)!.values.every((value, index) => value === values[index]),
  );
  expect(changed.map(([name]) => name)).toEqual([]);
});

it('prunes quantised weights, and keeps the codes of the remaining rows', async () => {
  const model = await quantised('q4');
  const report = await prune({ ...PLAIN, model, out: at('out'), sparsity: 0.3, widthMultiple: 32 });
  expect(report.certificate!.gapInFloat32).toBeLessThan(1e-5);
  expect(report.bytes.after).toBeLessThan(0.95 * report.bytes.before);
  expect(report.remarks).toEqual([
    'requested 30.0 % of the prunable parameters, removed 25.0 %: widths stay multiples of 32',
    expect.stringMatching(/^2 of 15 quantised weights were rounded again/),
  ]);
  const [before, after] = [await readCodes(model), await readCodes(at('out'))];
  const gate =
    [...before.keys()].find((name) => /gate/.test(name)) ??
    [...before.keys()].find((name) => after.get(name)!.length < before.get(name)!.length)!;
  const { keep } = report.modules.find(({ kind }) => kind === 'ffn')!;
  const rowBytes = before.get(gate)!.length / 256;
  const kept = keep!.flatMap((row) => [...before.get(gate)!.subarray(row * rowBytes, (row + 1) * rowBytes)]);
  expect([...after.get(gate)!]).toEqual(kept);
}, 240_000);

it.each([
  [{}, 16],
  [{ widthMultiple: 1 }, 1],
])("keeps widths at multiples of the model's quantisation blocks, with %j at those of %i", async (given, multiple) => {
  await mkdir(at('dense/onnx'), { recursive: true });
  await writeFile(at('dense/onnx/model.onnx'), buildDecoder({ ffn: wideFfn }));
  await writeFile(at('dense/config.json'), '{}');
  await quantize({ ...unchecked, model: at('dense'), out: at('q'), dtype: 'q4', blockSize: 16, rounding: 'nearest' });
  const report = await prune({ ...PLAIN, ...given, model: at('q'), out: at('out'), sparsity: 0.3 });
  const widths = report.modules.filter(({ kind }) => kind === 'ffn').map(({ unitsAfter }) => unitsAfter);
  expect(widths.every((width) => width < 128)).toBe(true);
  expect(widths.every((width) => width % 16 === 0)).toBe(multiple === 16);
  expect(report.settings).toMatchObject({ widthMultiple: multiple });
});

const wideFfn: Part = ({ g }, x) => linear(g, g.op('Relu', [linear(g, x, HIDDEN, 128)]), 128, HIDDEN);

it.each([
  ['products', quantiseLinears, true],
  ['only lookups', quantiseTable, false],
])('allows for rounded activations only if products read DequantizeLinear: %s', async (_, write, isAllowed) => {
  await edited((proto) => write(proto, { type: 'uint8', shared: 'matrix' }))(at('q'));
  const { certificate } = await prune({ ...PLAIN, model: at('q'), out: at('out'), sparsity: 0.3 });
  expect(certificate!.tolerance > 1e-3).toBe(isAllowed);
});

it('keeps the accuracy_level of MatMulNBits', async () => {
  await mkdir(at('dense/onnx'), { recursive: true });
  await writeFile(at('dense/onnx/model.onnx'), buildDecoder());
  await writeFile(at('dense/config.json'), '{}');
  const form = { dtype: 'q4', blockSize: 16, accuracyLevel: 4, rounding: 'nearest' } as const;
  await quantize({ ...unchecked, model: at('dense'), out: at('q'), ...form });
  await prune({ ...PLAIN, model: at('q'), out: at('out'), sparsity: 0.3, widthMultiple: 1 });
  const { graph } = fromBinary(ModelProtoSchema, await readFile(at('out/onnx/model_q4.onnx')));
  const products = graph!.node.filter(({ opType }) => opType === 'MatMulNBits');
  expect(products.length).toBeGreaterThan(12);
  for (const { attribute } of products) expect(attribute.find(({ name }) => name === 'accuracy_level')?.i).toBe(4n);
});

const neurons = 24;
type Build = (model: string) => Promise<unknown>;

const edited =
  (edit: (proto: ModelProto) => void): Build =>
  async (model) => {
    await mkdir(join(model, 'onnx'), { recursive: true });
    await writeFile(join(model, 'onnx/model_quantized.onnx'), editModel(buildDecoder({ opset: 21 }), edit));
    await writeFile(join(model, 'config.json'), '{}');
  };

const ours =
  (dtype: DtypeName): Build =>
  async (model) => {
    await mkdir(at('dense/onnx'), { recursive: true });
    await writeFile(at('dense/onnx/model.onnx'), buildDecoder());
    await writeFile(at('dense/config.json'), '{}');
    await quantize({ ...unchecked, model: at('dense'), out: model, dtype, rounding: 'nearest' });
  };

const constants = (type: LinearForm['type'], shared: LinearForm['shared']) =>
  [
    `constants of ${type} with a scale ${shared === 8 ? 'for 8 inputs' : `a ${shared}`}`,
    'constants',
    edited((proto) => quantiseLinears(proto, { type, shared })),
    // Pruning splits groups of eight inputs that share a scale.
    shared !== 8,
  ] as const;

const oneStep = (type: LinearForm['type'], shared: LinearForm['shared']) =>
  [
    `${type} with a scale a ${shared} and one step for all activations`,
    'dynamic',
    edited((proto) => {
      quantiseLinears(proto, { type, shared });
      roundActivations(proto);
    }),
    true,
  ] as const;

const LINEAR: readonly (readonly [string, string, Build, boolean])[] = [
  constants('int8', 'output'),
  constants('uint8', 'matrix'),
  constants('int4', 'output'),
  constants('uint4', 8),
  oneStep('uint8', 'matrix'),
  oneStep('int8', 'output'),
  ['int8 with a step for every token', 'dynamic', ours('int8'), true],
  ['uint8 with a step for every token', 'dynamic', ours('uint8'), true],
];

describe.each(LINEAR)('a model in %s', (name, form, build, keepsInputs) => {
  it('keeps its bytes if nothing is removed, and the exact remaining weights otherwise', async () => {
    await build(at('q'));
    const opened = await openModelFolder(at('q'));
    const { modelFile } = opened;
    await opened.close();
    await prune({ ...PLAIN, model: at('q'), out: at('whole'), sparsity: 0, certify: false });
    expect(await readFile(join(at('whole'), modelFile))).toEqual(await readFile(join(at('q'), modelFile)));
    const report = await prune({ ...PLAIN, model: at('q'), out: at('out'), sparsity: 0.3, widthMultiple: 1 });
    expect(report.certificate!.passed).toBe(true);
    const [before, after] = [await readFloats(at('q')), await readFloats(at('out'))];
    const kept = report.modules.filter(({ kind }) => kind === 'ffn').map(({ keep }) => keep!);
    expect(kept.map(({ length }) => length)).toEqual([expect.any(Number), expect.any(Number)]);
    const all = (count: number) => Array.from({ length: count }, (_, index) => index);
    let [rows, columns] = [0, 0];
    for (const [name, { dims, values, form: had }] of before) {
      const [height, width] = dims as [number, number];
      expect(after.get(name)).toMatchObject({ form: had });
      const keepsRows = height === neurons ? kept[rows++]! : all(height);
      const keepsColumns = width === neurons ? kept[columns++]! : all(width);
      const expected = cut(values, width, keepsRows, keepsColumns);
      expect(after.get(name)!.dims).toEqual([keepsRows.length, keepsColumns.length]);
      if (keepsInputs || height !== neurons) expect([...after.get(name)!.values]).toEqual(expected);
    }
    expect([rows, columns]).toEqual([2, 2]);
    expect([...before.values()].filter(({ form: had }) => had === form).length).toBeGreaterThan(12);
    expect(report.remarks.map((remark) => remark.split(',')[0])).toEqual([
      ...(keepsInputs ? [] : [expect.stringMatching(/^2 of \d+ quantised weights were rounded again$/)]),
      ...(name.includes('one step') ? ['activations are quantised with a scale per token'] : []),
    ]);
  });

  it('gets repaired weights rounded again, in its own form', async () => {
    await build(at('q'));
    const tokens = [Array.from({ length: 200 }, (_, index) => (index * 7) % 40)];
    const report = await prune({
      ...PLAIN,
      method: 'obc',
      sparsity: 0.3,
      widthMultiple: 1,
      model: at('q'),
      out: at('out'),
      calibration: { source: { tokens }, windowCount: 4, windowLength: 16, generate: false },
    });
    expect(report.certificate!.passed).toBe(true);
    expect(report.remarks.join()).toMatch(/2 of \d+ quantised weights were rounded again/);
    const [{ dtype, parts, bytes, divergence, certificate }] = report.dtypes as [DtypeReport];
    expect([dtype, bytes, certificate]).toEqual(['own', report.bytes.after, report.certificate]);
    expect(Object.values(parts).every((part) => part > 0)).toBe(true);
    expect(Object.values(parts).reduce((sum, part) => sum + part)).toBeLessThan(bytes);
    expect(divergence).toEqual({ windowCount: 2, pruning: expect.any(Number), quantising: expect.any(Number) });
    const [before, after] = [await readFloats(at('q')), await readFloats(at('out'))];
    expect([...after.values()].map(({ form: has }) => has)).toEqual([...before.values()].map(({ form: had }) => had));
  });
});

it('keeps the codes of output projections if heads are entire quantisation blocks', async () => {
  await edited((proto) => quantiseLinears(proto, { type: 'uint4', shared: HEAD_SIZE }))(at('q'));
  const cutting = { ...PLAIN, modules: 'attention', sparsity: 0.3 } as const;
  const report = await prune({ ...cutting, model: at('q'), out: at('out') });
  expect(report.certificate!.passed).toBe(true);
  // No weight was rounded again.
  expect(report.remarks).toEqual([
    expect.stringMatching(/^requested 30\.0 % .+ removed 25\.0 %: attention loses whole heads/),
  ]);
  const [before, after] = [await readFloats(at('q')), await readFloats(at('out'))];
  const changed = [...before].filter(([name, { dims }]) => after.get(name)!.dims.join() !== dims.join());
  // Query, key, value and output of two blocks.
  expect(changed).toHaveLength(8);
  const outputs = changed.filter(([name]) => after.get(name)!.dims[0] === 3 * HEAD_SIZE);
  expect(outputs).toHaveLength(2);
  for (const [block, [name, { values }]] of outputs.entries()) {
    const { keep } = report.modules.filter(({ kind }) => kind === 'attention')[block]!;
    const rows = keep.flatMap((head) => Array.from({ length: HEAD_SIZE }, (_, at) => head * HEAD_SIZE + at));
    const expected = cut(values, HIDDEN, rows, [...Array(HIDDEN).keys()]);
    expect([...after.get(name)!.values]).toEqual(expected);
  }
});

it('orders neurons so that output projections keep more than half of their codes', async () => {
  await edited((proto) => quantiseLinears(proto, { type: 'uint4', shared: 8 }))(at('q'));
  const report = await prune({ ...PLAIN, model: at('q'), out: at('out'), sparsity: 0.3, widthMultiple: 8 });
  const [before, after] = [await readFloats(at('q')), await readFloats(at('out'))];
  const outputs = [...before].filter(([, { dims }]) => dims[0] === neurons);
  expect(outputs).toHaveLength(2);
  for (const [block, [name, { values }]] of outputs.entries()) {
    const { keep } = report.modules.filter(({ kind }) => kind === 'ffn')[block]!;
    expect(keep).toHaveLength(16);
    const expected = cut(values, HIDDEN, keep, [...Array(HIDDEN).keys()]);
    const found = after.get(name)!.values;
    const same = expected.filter((value, at) => value === found[at]).length;
    expect(same).toBeGreaterThan(0.5 * expected.length);
  }
});

describe('a float model and its quantised copy', () => {
  const small = async () => {
    await mkdir(at('dense/onnx'), { recursive: true });
    await writeFile(at('dense/onnx/model.onnx'), buildDecoder());
    await writeFile(at('dense/config.json'), '{}');
    return at('dense');
  };
  const form = { dtype: 'q4', blockSize: 16, rounding: 'nearest' } as const;

  it('prunes weightsFrom the float model, and writes them in the form of the copy', async () => {
    const dense = await small();
    await quantize({ ...unchecked, ...form, model: dense, out: at('q') });
    const cut = { ...PLAIN, sparsity: 0.3, widthMultiple: 1 } as const;
    const report = await prune({ ...cut, model: at('q'), weightsFrom: dense, out: at('from') });
    expect(report.settings).toMatchObject({ weightsFrom: dense });
    expect(report.remarks.join()).toMatch(/ quantised weights were rounded again, .* taken from a float model/);
    expect(report.certificate!.gapInFloat32).toBeLessThan(1e-5);
    // Equal to pruning the float model, and quantising the result.
    await prune({ ...cut, ...form, model: dense, out: at('after') });
    expect(await readCodes(at('from'))).toEqual(await readCodes(at('after')));
    await prune({ ...cut, model: at('q'), out: at('own') });
    expect(await readCodes(at('own'))).not.toEqual(await readCodes(at('after')));
  });

  it('prunes weightsFrom the float model if the copy rounds activations too', async () => {
    const dense = await small();
    const cutting = { ...PLAIN, sparsity: 0.3, widthMultiple: 1 } as const;
    await quantize({ ...unchecked, model: dense, out: at('q'), dtype: 'uint8', rounding: 'nearest' });
    await prune({ ...cutting, model: at('q'), weightsFrom: dense, out: at('from') });
    await prune({ ...cutting, dtype: 'uint8', model: dense, out: at('after') });
    // The embedding table, which is only looked up, gets other zero points.
    const linearWeights = async (path: string) =>
      [...(await readFloats(path))].filter(([, { form: had }]) => had === 'dynamic').map(([, { values }]) => values);
    expect(await linearWeights(at('from'))).toEqual(await linearWeights(at('after')));
    expect(await linearWeights(at('from'))).toHaveLength(13);
  });

  it('writes rows that are no multiple of the block with even levels instead of nf4', async () => {
    await quantize({ ...unchecked, ...form, dtype: 'bnb4', model: await small(), out: at('q') });
    const cut = { ...PLAIN, modules: 'attention', sparsity: 0.3 } as const;
    const report = await prune({ ...cut, model: at('q'), out: at('out') });
    expect(report.modules[0]!.unitsAfter).toBe(3);
    expect(report.certificate!.gapInFloat32).toBeLessThan(1e-5);
    const opened = await openModelFolder(at('out'));
    const grids = [...(await opened.load()).weights.values()].flatMap((handle) => {
      const { codes } = quantisedSource(handle) ?? {};
      return codes?.form === 'blocks' ? [codes.stored.grid] : [];
    });
    await opened.close();
    expect(grids.filter(({ bits }) => bits === 4).map(({ codebook }) => codebook)).toContain(undefined);
    expect(grids.map(({ codebook }) => codebook)).toContain('nf4');
  });

  it('refuses to heal the copy, and to save or apply a recipe for it', async () => {
    const dense = await small();
    await quantize({ ...unchecked, ...form, model: dense, out: at('q') });
    const healed = (teacher: string, student: string) => heal({ dense: teacher, pruned: student, out: at('no') });
    await expect(healed(dense, at('q'))).rejects.toThrow(UnsupportedModelError);
    await expect(healed(dense, at('q'))).rejects.toThrow(/q has quantised weights; .* quantise the result$/);
    await expect(healed(at('q'), dense)).rejects.toThrow(/q has quantised weights; .* give the float model/);
    const cut = { ...PLAIN, sparsity: 0.3, widthMultiple: 1, dryRun: true, recipe: at('recipe') } as const;
    const { remarks } = await prune({ ...cut, model: at('q') });
    expect(remarks.join()).toContain('no recipe was written: the model has quantised weights');
    await prune({ ...cut, model: dense });
    const applied = applyRecipe({ recipe: at('recipe'), model: at('q'), out: at('no') });
    await expect(applied).rejects.toThrow(/q has quantised weights; .* give the float model/);
  });

  it('refuses weightsFrom if it has no effect or no floats', async () => {
    const dense = await small();
    await quantize({ ...unchecked, ...form, model: dense, out: at('q') });
    const asked = (model: string, weightsFrom: string) =>
      prune({ ...PLAIN, sparsity: 0, model, weightsFrom, out: at('no') });
    await expect(asked(dense, dense)).rejects.toThrow(OptionError);
    await expect(asked(dense, dense)).rejects.toThrow(/^weightsFrom has no effect: the model is not quantised/);
    await expect(asked(at('q'), at('q'))).rejects.toThrow(/^weightsFrom: .* has no float weight \[/);
  });
});
