import { mkdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { OptionError } from '../../src/errors.js';
import { shrink } from '../../src/node.js';
import { copyShortLlama } from '../support/short-llama.js';
import { useTemporaryFolder } from '../support/temporary-folder.js';

const folder = useTemporaryFolder();
const at = (path: string) => join(folder(), path);
const calibration = { windowCount: 4, windowLength: 64, generate: false } as const;
const quick = { calibration, evaluation: false } as const;

it('meets a size with fewer units and fewer bits, certified, and reports what was compared', async () => {
  const model = await copyShortLlama(at('in'));
  const [report] = await shrink({ ...quick, model, out: at('out'), targetSize: '620KB', dtypes: ['q8', 'q4'] });
  const { size, bytes, certificate, dtypes } = report;
  const [written] = dtypes!;
  expect((await stat(at(`out/${written!.file}`))).size).toBe(bytes.after);
  expect(bytes.after).toBeLessThanOrEqual(620_000);
  expect(bytes.after).toBeGreaterThan(590_000);
  expect(certificate).toMatchObject({ opened: true, passed: true });
  const chosen = size!.candidates.filter((candidate) => candidate.chosen);
  expect(chosen).toHaveLength(1);
  expect(chosen[0]!.bytes).toBe(bytes.after);
  const total = ({ divergence }: (typeof chosen)[number]) => divergence.pruning + divergence.quantising;
  const fitting = size!.candidates.filter((candidate) => candidate.bytes <= 620_000);
  expect(total(chosen[0]!)).toBe(Math.min(...fitting.map(total)));
  expect(size!.candidates.filter(({ kind }) => kind === 'plain')).toHaveLength(2);
  // The result is found again, and another size is another result.
  const [again] = await shrink({ ...quick, model, out: at('out'), targetSize: '620KB', dtypes: ['q8', 'q4'] });
  expect(again).toMatchObject({ createdAt: report.createdAt });
}, 240_000);

it('makes several sizes from one measurement, each in a folder of its own', async () => {
  const model = await copyShortLlama(at('in'));
  await mkdir(at('out'));
  const reports = await shrink({
    ...{ ...quick, model, out: at('out'), certify: false },
    ...{ targetSize: ['1.2MB', 900_000], allow: ['bits'] },
  });
  expect(reports).toHaveLength(2);
  const page = JSON.parse(await readFile(at('out/1.2MB/fang-prune-report.json'), 'utf8'));
  expect(page.bytes.after).toBeLessThanOrEqual(1_200_000);
  expect((await stat(at('out/900000'))).isDirectory()).toBe(true);
  for (const { kind } of page.size.candidates) expect(['plain', 'bits']).toContain(kind);
}, 240_000);

it.each([
  [
    { targetSize: '10KB' },
    /^targetSize is 10.0 KB, and the least that the levers allowed can reach is \d+ KB: .*embed/,
  ],
  [{ targetSize: '60 apples' }, /^targetSize is "60 apples"; expected bytes above 0/],
  [{ targetSize: 0 }, /^targetSize is 0; expected/],
  [{ targetSize: ['1MB', '1 MB'] }, /^targetSize names 1MB twice/],
  [{}, /^targetSize is missing/],
  [{ targetSize: '1MB', allow: ['weights'] }, /^allow holds "weights"; expected one of neurons, heads, experts, bits/],
  [{ targetSize: '1MB', allow: [] }, /^allow is empty/],
  [{ targetSize: '1MB', allow: ['heads'], dtypes: ['q4'] }, /^dtypes has no effect unless bits are allowed/],
  [{ targetSize: '1MB', dtypes: ['fp16'] }, /^dtypes holds "fp16"; expected one of q8, q4, q4f16, q2, q2f16/],
  [{ targetSize: '1MB', dtypes: ['q8', 'q4f16'] }, /^dtypes mixes q8 and q4f16/],
  [{ targetSize: '1MB', allow: ['bits'], heal: true }, /^heal has no effect where only bits are allowed/],
])('refuses %j', async (given, message) => {
  const model = await copyShortLlama(at('in'));
  const asked = shrink({ model, out: at('out'), ...given } as never);
  await expect(asked).rejects.toThrow(OptionError);
  await expect(asked).rejects.toThrow(message);
});
