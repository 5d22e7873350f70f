import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { nodePlatform } from '../../src/node/node-platform.js';
import { plan, prune } from '../../src/node.js';
import { runPlan } from '../../src/pipeline/run-plan.js';
import { SHORT_LLAMA } from '../support/short-llama.js';

const REQUEST = { model: SHORT_LLAMA, sparsity: 0.3, modules: 'ffn' } as const;

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'fang-prune-plan-'));
});
afterAll(() => rm(folder, { recursive: true }));

it('estimates widths, parameters, bytes and time of a run, and writes no files', async () => {
  const request = { ...REQUEST, method: 'magnitude' } as const;
  const { results, calibration, stages, ms } = await plan({ ...request, out: join(folder, 'pruned') });
  expect(await readdir(folder)).toEqual([]);
  const run = await prune({ ...request, dryRun: true, report: false });
  const widths = run.modules.map(({ block, kind, unitsBefore, unitsAfter }) => ({
    block,
    kind,
    unitsBefore,
    unitsAfter,
  }));
  expect(results).toEqual([{ sparsity: run.sparsity, parameters: run.parameters, bytes: run.bytes, widths }]);
  expect(calibration).toBeUndefined();
  expect(stages.map(({ stage }) => stage)).toEqual(['load', 'analyse', 'prune', 'save', 'certify', 'quality']);
  expect(stages.reduce((sum, stage) => sum + stage.ms, 0)).toBeCloseTo(ms);
});

it('omits widths that depend on measurements, and estimates every dtype and sparsity', async () => {
  const { allocation, results, calibration, stages } = await plan({
    ...REQUEST,
    sparsity: [0.2, 0.4],
    dtype: ['q4', 'fp16'],
  });
  expect(allocation).toBe('global');
  expect(results.map(({ widths }) => widths)).toEqual([undefined, undefined]);
  expect(results.map(({ dtypes }) => dtypes!.map(({ dtype }) => dtype))).toEqual([
    ['q4', 'fp16'],
    ['q4', 'fp16'],
  ]);
  expect(results[0]!.bytes.after).toBeGreaterThan(results[1]!.bytes.after);
  expect(calibration!.writtenCount).toBe(32);
  expect(stages.map(({ stage }) => stage)).toContain('generate');
});

it('remarks on parts that are not pruned, and on the effect of each sparsity', async () => {
  const model = 'test/fixtures/exporters/qwen3_moe-optimum01-fp32';
  const { remarks } = await plan({ model, sparsity: [0.3, 0.5], method: 'magnitude' });
  expect(remarks).toEqual([
    expect.stringMatching(
      /^sparsity counts .* attention alone \(experts stay\): 30\.0 % of it is \d+\.\d % of the model/,
    ),
    expect.stringMatching(/experts: stays as it is/),
    expect.stringMatching(/: 50\.0 % of it is \d+\.\d % of the model, about \d+ of \d+ heads$/),
  ]);
});

it('estimates exactly the bytes that a run writes', async () => {
  const out = join(folder, 'written');
  const request = { ...REQUEST, method: 'magnitude', dtype: ['q4', 'q8', 'fp16'], rounding: 'nearest' } as const;
  const { results } = await plan(request);
  const { dtypes, bytes } = await prune({ ...request, out, certify: false, evaluation: false });
  const sizes = (given: typeof dtypes) => given!.map(({ dtype, bytes }) => [dtype, bytes]);
  expect([results[0]!.bytes, sizes(results[0]!.dtypes)]).toEqual([bytes, sizes(dtypes)]);
});

it('counts the memory of a whole session only if the run opens one', async () => {
  const memoryOf = async (certify: boolean, memoryBytes: number) => {
    const request = { ...REQUEST, method: 'magnitude', evaluation: false, certify } as const;
    return (await runPlan({ ...nodePlatform, memoryBytes }, request)).memoryBytes;
  };
  const { before } = (await prune({ ...REQUEST, method: 'magnitude', dryRun: true, report: false })).parameters;
  const [base, blockwise] = [0.45 * 2 ** 30, await memoryOf(false, 2 ** 40)];
  expect(blockwise - base).toBeLessThan(4 * before);
  expect((await memoryOf(true, 2 ** 40)) - base).toBeGreaterThanOrEqual(4 * before);
  // It would take more than 70 % of the memory.
  expect(await memoryOf(true, 4 * before)).toBe(blockwise);
});

it('refuses what the run would refuse', async () => {
  const taken = join(folder, 'taken');
  await writeFile(taken, 'mine');
  await expect(plan({ ...REQUEST, out: taken })).rejects.toThrow(/taken/);
  const source = { file: join(folder, 'no.txt') };
  await expect(plan({ ...REQUEST, calibration: { source } })).rejects.toThrow(/no such file/);
  await expect(plan({ ...REQUEST, blockSparsity: { 99: 0 } })).rejects.toThrow(/99/);
  await expect(plan({ ...REQUEST, statistics: 'kept' })).rejects.toThrow(/statistics has no effect on estimates/);
});
