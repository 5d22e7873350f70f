import { truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Progress, rebuildReport } from '../../src/node.js';
import { importPackage } from '../support/built-package.js';
import { PRUNE_REPORT } from '../support/cli.js';
import { useTemporaryFolder } from '../support/temporary-folder.js';

const folder = useTemporaryFolder();
const at = (name: string) => join(folder(), name);
const writeReport = () => writeFile(at('report.json'), JSON.stringify(PRUNE_REPORT));

it('refuses reports and measurements of more than 32 MiB', async () => {
  await writeReport();
  await writeFile(at('large.json'), '{}');
  await truncate(at('large.json'), 33 * 2 ** 20);
  const refusal = { code: 'ERR_MODEL_FORMAT', message: expect.stringMatching(/it has 34603008 bytes; at most/) };
  await expect(rebuildReport({ report: at('large.json') })).rejects.toMatchObject(refusal);
  await expect(rebuildReport({ report: at('report.json'), add: [at('large.json')] })).rejects.toMatchObject(refusal);
  await expect(rebuildReport({ report: at('report.json'), beside: [at('large.json')] })).rejects.toMatchObject(refusal);
});

it('reports progress, and stops when it is aborted', async () => {
  await writeReport();
  const abortion = new AbortController();
  const onProgress = ({ stage, done, total }: Progress) => {
    expect({ stage, total }).toEqual({ stage: 'rebuild', total: 3 });
    if (done === 1) abortion.abort(new Error('enough'));
  };
  const request = { report: at('report.json'), beside: [at('report.json')], out: at('other.json') };
  await expect(rebuildReport({ ...request, onProgress, signal: abortion.signal })).rejects.toThrow('enough');
});

it('gives the same report in a separate process', async () => {
  await writeReport();
  const built = await importPackage();
  const { report } = await built.rebuildReport({ report: at('report.json'), out: at('apart.json'), isolate: true });
  expect(report).toEqual((await rebuildReport({ report: at('report.json'), out: at('here.json') })).report);
});
