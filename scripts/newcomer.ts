/**
 * Follows the README's first steps: an empty folder, `npm install`, prune a model by its name on the Hub, open the result with
 * transformers.js without options. The Hub is a local server; only npm's registry is used.
 */
import assert from 'node:assert/strict';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { repoOf, startHubServer } from '../test/support/hub-server.js';
import { execute, makeProject, openWorkshop } from './fresh-project.js';

const NAME = 'fang-prune/tiny-llama';

const workshop = await openWorkshop();
const server = await startHubServer({ [NAME]: { files: repoOf('examples/models/tiny-llama'), license: 'apache-2.0' } });
const start = performance.now();
const say = (what: string) => console.log(`${((performance.now() - start) / 1000).toFixed(1)} s: ${what}`);
try {
  const folder = await makeProject(workshop, 'newcomer', [workshop.tarball, '@huggingface/transformers']);
  say('installed');
  const hub = { HF_ENDPOINT: server.url, HF_HOME: join(workshop.root, 'hf') };
  const flags = ['--out', 'smaller', '--sparsity', '30%', '--dtype', 'q4'];
  await execute(folder, ['npx', 'fang-prune', 'prune', NAME, ...flags], hub);
  const config = JSON.parse(readFileSync(join(folder, 'smaller/config.json'), 'utf8')) as Record<string, unknown>;
  assert.deepEqual(config['transformers.js_config'], { dtype: 'q4' });
  assert.ok(
    !existsSync(join(folder, 'smaller/README.md')),
    'the dense model has a page, which is not of the pruned one',
  );
  say('pruned');
  writeFileSync(join(folder, 'open.mjs'), readmeProgram());
  const text = await execute(folder, ['node', 'open.mjs']);
  assert.match(text, /Once upon a time[\s\S]+\w/);
  say(`wrote ${JSON.stringify(text.trim())}`);
} finally {
  await server.close();
  workshop.remove();
}

/** The program of the README's first screen. */
function readmeProgram(): string {
  const [, program = ''] = /```js\n([^`]+)```/.exec(readFileSync('README.md', 'utf8')) ?? [];
  assert.ok(program.includes('pipeline('), 'the README opens no model on its first screen');
  return program;
}
