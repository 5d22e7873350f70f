import { mkdir, symlink, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { EngineError } from '../../src/errors.js';
import { findProgram } from '../../src/node/find-program.js';
import { useTemporaryFolder } from '../support/temporary-folder.js';

const folder = useTemporaryFolder();
const urlOf = (path: string) => pathToFileURL(join(folder(), path)).href;

it('is TypeScript from the sources, and JavaScript from dist', () => {
  expect(findProgram('isolated-worker')).toMatchObject({ path: resolve('src/node/isolated-worker.ts') });
  const built = pathToFileURL(resolve('dist/node.cjs')).href;
  expect(findProgram('bench-worker', built)).toEqual({ path: resolve('dist/bench-worker.js'), execArgv: [] });
});

it('is never a file next to other code', async () => {
  await writeFile(join(folder(), 'isolated-worker.js'), '');
  await writeFile(join(folder(), 'package.json'), '{ "name": "fang-prune", "version": "0.0.1" }');
  for (const url of [urlOf('bundle.cjs'), 'https://example.org/fang-prune.js'])
    expect(() => findProgram('isolated-worker', url)).toThrow(EngineError);
  expect(() => findProgram('isolated-worker', urlOf('bundle.cjs'))).toThrow(/mark it as external/);
});

it('is that of the installed package, from a bundle', async () => {
  await mkdir(join(folder(), 'node_modules'));
  await symlink(resolve('.'), join(folder(), 'node_modules/fang-prune'), 'dir');
  await writeFile(join(folder(), 'package.json'), '{ "name": "app" }');
  const { path } = findProgram('isolated-worker', urlOf('bundle.cjs'));
  expect(path).toBe(resolve('dist/isolated-worker.js'));
});
