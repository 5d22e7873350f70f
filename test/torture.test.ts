import { execFile } from 'node:child_process';
import { promisify } from 'node:util';

/** Small models of three exporters: an operator of its own for attention, none, and embeddings in a file of their own. */
const MODELS = ['llama-genai018-fp32', 'llama-dynamo215op23-fp32', 'llama-dynamo215op18embeds-fp32'];

it('no mutant of a model or of a file beside it crashes, goes on for ever or ends in an untyped error', async () => {
  const folders = MODELS.map((name) => `test/fixtures/exporters/${name}`);
  const call = ['--import', 'tsx', 'scripts/torture.ts', ...folders, '--mutants', '150', '--seed', '11'];
  const { stdout } = await promisify(execFile)(process.execPath, call).catch((failed: { stdout: string }) => failed);
  expect(stdout).toContain('not allowed: 0');
  expect(stdout).toMatch(/\| ERR_MODEL_FORMAT \| \d/);
}, 300_000);
