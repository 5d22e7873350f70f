import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { OptionError } from '../../src/errors.js';
import { observe, planShrink, quantize, shrink } from '../../src/node.js';
import { copyShortLlama } from '../support/short-llama.js';
import { hashFolder, useTemporaryFolder } from '../support/temporary-folder.js';

const folder = useTemporaryFolder();
const at = (path: string) => join(folder(), path);

it('reports the bytes of each dtype and the smallest size, and writes no files', async () => {
  const model = await copyShortLlama(at('in'));
  const before = await hashFolder(folder());
  const plan = await planShrink({ model, targetSize: ['620KB', '5MB'], dtypes: ['q8', 'q4', 'q2'] });
  expect(await hashFolder(folder())).toBe(before);
  const plain = { model, rounding: 'nearest', report: false, certify: false, evaluation: false } as const;
  const { bytes } = await quantize({ ...plain, out: at('q4'), dtype: 'q4' });
  // Scales take half as many bytes.
  expect(plan.dtypes[1]!.bytes).toBeLessThan(bytes.after);
  expect(plan.dtypes[1]!.bytes).toBeGreaterThan(0.9 * bytes.after);
  const [small, large] = plan.sizes;
  expect(small!.removed.q8).toBeGreaterThan(small!.removed.q4!);
  expect(large!.removed).toEqual({ q8: 0, q4: 0, q2: 0 });
  expect(small!.candidates).toBeUndefined();
  expect(plan.bytes).toBe((await stat(join(model, 'onnx/model.onnx'))).size);
  for (const figure of [plan.ms, plan.memoryBytes]) expect(figure).toBeGreaterThan(0);
  // A run refuses the same sizes.
  const asked = { model, targetSize: plan.smallest.bytes - 1, dtypes: ['q8', 'q4', 'q2'] as const };
  await expect(planShrink(asked)).rejects.toThrow(OptionError);
  await expect(planShrink({ ...asked, targetSize: plan.smallest.bytes })).resolves.toBeDefined();
  const { vocabulary, smallest } = await planShrink({ model, vocabularySize: 900, dtypes: ['q8', 'q4', 'q2'] });
  expect(vocabulary!.rows.after).toBe(900);
  expect(smallest.bytes).toBeLessThan(plan.smallest.bytes);
}, 120_000);

it('predicts the choice of a run and its divergence from statistics', async () => {
  const model = await copyShortLlama(at('in'));
  // One held-out window of 64 tokens measures the cost of rounding only roughly.
  const calibration = { windowCount: 8, windowLength: 64, generate: false } as const;
  await observe({ model, out: at('seen'), calibration });
  const reductions = { targetSize: '500KB', allow: ['neurons', 'bits'], dtypes: ['q8', 'q4'] } as const;
  const { sizes, dtypes } = await planShrink({ model, ...reductions, statistics: at('seen') });
  const [report] = await shrink({
    model,
    out: at('out'),
    ...reductions,
    calibration,
    certify: false,
    evaluation: false,
  });
  const plain = report.size!.candidates.filter(({ kind }) => kind === 'plain').map((candidate) => candidate.bytes);
  expect(dtypes.map((each) => each.bytes)).toEqual(plain);
  // The candidate that the run chooses by measurements.
  const chosen = report.size!.candidates.find((candidate) => candidate.chosen)!;
  const [best] = sizes[0]!.candidates!;
  expect(best).toMatchObject({ bytes: chosen.bytes, sparsity: chosen.sparsity, maps: chosen.maps });
  // Heads may not be removed, but are prunable.
  expect(chosen.sparsity).toBeGreaterThan(0);
  expect(report.sparsity.achieved).toBeCloseTo(chosen.sparsity, 9);
  expect(report.sparsity.requested).toBe(chosen.sparsity);
  expect(best!.predicted.pruning / chosen.divergence.pruning).toBeGreaterThan(0.67);
  expect(best!.predicted.pruning / chosen.divergence.pruning).toBeLessThan(1.5);
  expect(best!.predicted.quantising / chosen.divergence.quantising).toBeGreaterThan(0.67);
  expect(best!.predicted.quantising / chosen.divergence.quantising).toBeLessThan(1.5);
}, 120_000);

it('counts the KV cache only for a target memory, or without a target', async () => {
  const request = { model: await copyShortLlama(at('in')), contextLength: 512, dtypes: ['q4'] } as const;
  const { smallest } = await planShrink(request);
  const { smallest: file } = await planShrink({ ...request, contextLength: undefined, targetSize: '5MB' });
  expect(smallest.bytes).toBeGreaterThan(file.bytes);
  const asked = planShrink({ ...request, targetSize: '5MB' });
  await expect(asked).rejects.toThrow(/^contextLength has no effect without targetMemory/);
});

it.each([
  ['q4', 4],
  ['q4f16', 2],
] as const)('counts the KV cache of %s in %i bytes a value', async (dtype, valueBytes) => {
  const request = { model: await copyShortLlama(at('in')), dtypes: [dtype] };
  const { dtypes: counted } = await planShrink({ ...request, contextLength: 512 });
  const { dtypes: plain } = await planShrink({ ...request, targetSize: '5MB' });
  // Keys and values of 4 heads of 24 channels in 2 blocks.
  expect(counted[0]!.bytes - plain[0]!.bytes).toBe(512 * 2 * 4 * 24 * 2 * valueBytes);
});

it('refuses statistics together with a trimmed vocabulary', async () => {
  const model = await copyShortLlama(at('in'));
  const asked = planShrink({ model, vocabularySize: 900, statistics: at('seen') });
  await expect(asked).rejects.toThrow(/^statistics cover the entire vocabulary/);
});

it('remarks that the dtypes make a float16 model of experts larger', async () => {
  const model = 'examples/models/tiny-moe';
  const { bytes, dtypes, remarks } = await planShrink({ model });
  for (const { bytes: rounded } of dtypes) expect(rounded).toBeGreaterThan(bytes);
  expect(remarks.join()).toMatch(/takes 12\.\d MB in q4 and 7\.\d+ MB now: .* experts, .* choose dtypes q4f16/);
  const halves = await planShrink({ model, dtypes: ['q4f16'] });
  expect(halves.dtypes[0]!.bytes).toBeLessThan(bytes);
  expect(halves.remarks).toEqual([]);
}, 60_000);
