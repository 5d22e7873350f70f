import { cp, readFile, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fromBinary, toBinary } from '@bufbuild/protobuf';
import { ModelProtoSchema } from 'onnx-buf';
import { OptionError } from '../../src/errors.js';
import { describe as describeModel, type PruneRequest, prune } from '../../src/node.js';
import type { PruneOptions } from '../../src/options.js';
import type { ModuleReport, PruneReport } from '../../src/report/report-schema.js';
import { VERSION } from '../../src/version.js';
import { savedReport } from '../support/saved-report.js';
import { copyShortLlama, SHORT_LLAMA } from '../support/short-llama.js';
import { listFiles, useTemporaryFolder } from '../support/temporary-folder.js';

const folder = useTemporaryFolder();
const at = (path: string) => join(folder(), path);
const readReport = async (path: string) => JSON.parse(await readFile(at(path), 'utf8')) as PruneReport;

const run = (request: Partial<PruneRequest> = {}) =>
  prune({
    model: SHORT_LLAMA,
    out: at('out'),
    sparsity: 0.3,
    calibration: { windowCount: 8, windowLength: 64 },
    certify: false,
    evaluation: false,
    ...request,
  });

describe('the report of a run', () => {
  it('is written next to the pruned model, and equals the result of prune', async () => {
    const report = await run({ method: 'o-fang', model: await copyShortLlama(at('in')) });
    expect(await listFiles(at('out'))).toEqual(
      expect.arrayContaining(['fang-prune-report.html', 'fang-prune-report.json']),
    );
    expect(await readReport('out/fang-prune-report.json')).toEqual(savedReport(report));
    expect(report).toMatchObject({ schema: 'fang-prune-report/1', version: VERSION, method: 'o-fang', seed: 0 });
    expect(report.settings).toMatchObject({ allocation: 'adaptive', grouping: { contextCount: 7 } });
    expect(report.blocks).toHaveLength(2);
    for (const { change, sparsity } of report.blocks) {
      expect(change).toBeGreaterThan(0);
      expect(sparsity).toBeGreaterThanOrEqual(0);
    }
    expect(report.environment).toMatchObject({ runtime: expect.stringContaining('Node.js'), executionProvider: 'cpu' });
    report.modules.filter(({ kind }) => kind === 'ffn').forEach(expectFunctionGroups);
    for (const { kind, error, numerics } of report.modules) {
      if (kind === 'ffn') continue;
      expect(error).toMatchObject({ basis: 'gram' });
      expect(numerics).toMatchObject({ dampening: 0.01 });
    }
  });

  it('leaves the weights of a model whose external data has its name', async () => {
    await cp('test/fixtures/exporters/llama-genai018-fp32', at('in'), { recursive: true });
    const model = fromBinary(ModelProtoSchema, await readFile(at('in/model.onnx')));
    for (const { externalData } of model.graph!.initializer)
      for (const entry of externalData) if (entry.key === 'location') entry.value = 'fang-prune-report.json';
    await writeFile(at('in/model.onnx'), toBinary(ModelProtoSchema, model));
    await rename(at('in/model.onnx.data'), at('in/fang-prune-report.json'));
    const { out } = await run({ method: 'magnitude', model: at('in'), calibration: undefined });
    expect(await listFiles(out!)).toContain('model.onnx_data');
    expect(await describeModel({ model: out! })).toMatchObject({ hiddenSize: 32 });
  });

  it.each<[string, Partial<PruneRequest>]>([
    ['auto, which generates half its windows', { method: 'auto', dampening: 0.2, seed: 3 }],
    [
      'a method with groups',
      { method: 'f-fang', grouping: { contextCount: 3 }, weighting: { temperature: { absolute: 2 } } },
    ],
    [
      'single blocks',
      {
        sparsity: 0.25,
        method: 'flap',
        modules: 'ffn',
        widthMultiple: 16,
        blockSparsity: { 0: 0, 1: { ffn: 0.5 } },
      },
    ],
    ['a method that reads no tokens', { method: 'magnitude', calibration: undefined }],
  ])(
    'has settings that give the same bytes again: %s',
    async (_, options) => {
      const source = { file: join(SHORT_LLAMA, 'text/french.txt') };
      const calibration = { source, windowCount: 3, windowLength: 24, selection: 'sample' } as const;
      const { settings } = await run({ calibration, ...options });
      const { settings: again } = await prune({
        ...(settings as unknown as PruneOptions),
        model: SHORT_LLAMA,
        out: at('again'),
        certify: false,
        evaluation: false,
      });
      expect(again).toEqual(settings);
      const [first, other] = await Promise.all(['out', 'again'].map((name) => readFile(at(`${name}/onnx/model.onnx`))));
      // Far quicker than a comparison that could show where they differ.
      expect(first!.equals(other!)).toBe(true);
    },
    240_000,
  );

  it('is written to the given path, also in a dry run', async () => {
    const report = await run({ dryRun: true, method: 'flap', report: at('reports/dry.json') });
    expect(await listFiles(folder())).toEqual(['reports/dry.html', 'reports/dry.json']);
    expect(await readReport('reports/dry.json')).toEqual(savedReport(report));
    expect(report.out).toBeUndefined();
    await expect(run({ report: at('report.txt') })).rejects.toThrow(OptionError);
  });

  it('has errors from moments with a method that needs no more, and none without tokens', async () => {
    const report = await run({ dryRun: true, modules: 'ffn', method: 'flap' });
    for (const { kind, error } of report.modules) {
      if (kind === 'attention') expect(error).toBeUndefined();
      else {
        expect(error!.basis).toBe('moments');
        expect(error!.after).toBeLessThan(error!.before);
      }
    }
    const withoutTokens = await run({ dryRun: true, method: 'magnitude', calibration: undefined });
    expect(withoutTokens.modules.every(({ error }) => error === undefined)).toBe(true);
  });

  it('is omitted if report is false, and not copied from an earlier run', async () => {
    const model = await copyShortLlama(at('in'));
    await writeFile(join(model, 'fang-prune-report.json'), '{}');
    await writeFile(join(model, 'fang-prune-report.html'), 'old');
    await run({ model, report: false, method: 'random', calibration: undefined });
    expect((await listFiles(at('out'))).filter((path) => path.includes('report'))).toEqual([]);
  });

  it.each<[Partial<PruneRequest>, string | undefined]>([
    [
      { method: 'flap' },
      'X: attention loses whole KV groups, equally many in all blocks. With another allocation, FFNs make up for that',
    ],
    [{ method: 'flap', allocation: 'adaptive' }, undefined],
    [{ method: 'flap', shots: 2 }, 'X: attention loses whole KV groups, equally many in all blocks. With'],
    [{ method: 'flap', modules: 'ffn' }, undefined],
    [{ modules: 'ffn', widthMultiple: 64 }, 'X: widths stay multiples of 64'],
    [{ modules: 'attention', perBlockKvHeads: true }, 'X: attention loses whole KV groups'],
    [{ modules: 'attention', headUnit: 'query' }, 'X: attention loses a head of every KV group at a time, equally'],
    [{ modules: 'ffn', allocation: ({ modules }) => modules.map(() => 0.2) }, 'X: the allocation is custom'],
  ])('remarks on a removed fraction other than requested: %j', async (options, expected) => {
    const readsTokens = options.method !== undefined || options.allocation !== undefined;
    const calibration = readsTokens ? { windowCount: 2, windowLength: 24, generate: false } : undefined;
    const { sparsity, remarks } = await run({ method: 'magnitude', calibration, dryRun: true, ...options });
    const found = remarks.filter((remark) => remark.startsWith('requested'));
    const parts = `requested 30.0 % of the prunable parameters, removed ${(100 * sparsity.achieved).toFixed(1)} %`;
    expect(found).toEqual(expected === undefined ? [] : [expect.stringContaining(expected.replace('X', parts))]);
  });

  it('quotes no text if quoteText is false', async () => {
    const calibration = { windowCount: 2, windowLength: 32 };
    const report = await run({ method: 'f-fang', quoteText: false, dryRun: true, modules: 'ffn', calibration });
    expect(report.modules.flatMap(({ contexts = [] }) => contexts.map((context) => Object.keys(context)))).toEqual(
      Array(14).fill(['tokenCount']),
    );
  });
});

function expectFunctionGroups({ groups = [], contexts = [], affinity, keep, unitsBefore, error }: ModuleReport) {
  expect(groups.map(({ kind }) => kind)).toEqual(['shared', ...Array(contexts.length).fill('function')]);
  const members = groups.flatMap((group) => group.members).sort((one, other) => one - other);
  expect(members).toEqual(Array.from({ length: unitsBefore }, (_, neuron) => neuron));
  expect(groups[0]!.keptCount).toBe(groups[0]!.members.length);
  for (const group of groups) {
    expect(group.keptCount).toBe(group.members.filter((neuron) => keep.includes(neuron)).length);
    if (group.keptCount < group.members.length) expect(group.numerics!.condition).toBeGreaterThan(1);
  }
  expect(contexts.reduce((sum, { tokenCount }) => sum + tokenCount, 0)).toBe(8 * 64);
  for (const { examples = [], tokens } of contexts) {
    expect(examples.length).toBeGreaterThan(0);
    expect(examples.every(({ token }) => token.length > 0)).toBe(true);
    expect(tokens).toBeDefined();
  }
  expect(affinity!.values).toHaveLength(contexts.length);
  if (error !== undefined) expect(error.after).toBeLessThan(error.before);
}
