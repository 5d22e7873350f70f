import { join } from 'node:path';
import { openModelFolder, prune, quantize } from '../../src/node.js';
import { codesBehind } from '../../src/quantisation/dequantise-graph.js';
import type { DtypeName } from '../../src/quantisation/dtypes.js';
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
  const read = await Promise.all(codes.map(async ([name, { stored }]) => [name, await stored.codes.read()] as const));
  await opened.close();
  return new Map(read);
}

it('leaves every code as it is where nothing is removed', async () => {
  const model = await quantised('q4');
  await prune({ ...nothing, model, out: at('out'), sparsity: 0, certify: false });
  const [before, after] = [await readCodes(model), await readCodes(at('out'))];
  expect(before.size).toBe(43);
  expect(after).toEqual(before);
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
