import { execFile } from 'node:child_process';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { buildPackage } from '../support/built-package.js';
import { SHORT_LLAMA } from '../support/short-llama.js';

let cli = '';
beforeAll(async () => {
  cli = join(await buildPackage(), 'dist/cli.js');
});

/** Runs the built command line. */
const run = (args: readonly string[], environment: NodeJS.ProcessEnv = {}) =>
  new Promise<{ readonly code: unknown; readonly out: string; readonly err: string }>((done) => {
    const env = { ...process.env, NO_COLOR: '1', ...environment };
    execFile(process.execPath, [cli, ...args], { env }, (error, out, err) =>
      done({ code: error?.code ?? 0, out, err }),
    );
  });

it('names command and stage when the process of a command dies, with exit code 6', async () => {
  const dies = resolve('test/support/dies-by-signal.cjs');
  const { code, out, err } = await run(['describe', SHORT_LLAMA, '--json'], {
    NODE_OPTIONS: `--require ${dies}`,
  });
  expect(code).toBe(6);
  expect(err).toContain('the process of describe died by SIGFPE at the stage "start"');
  expect(JSON.parse(out)).toEqual({
    error: { code: 'ERR_ENGINE', message: expect.stringContaining('died by SIGFPE') },
  });
});

it('has the results, errors and exit codes of the process', async () => {
  const described = await run(['describe', SHORT_LLAMA, '--json', '--quiet']);
  expect(described).toMatchObject({ code: 0, err: '' });
  expect(JSON.parse(described.out)).toMatchObject({ hiddenSize: 192 });
  expect(await run(['describe', 'no-such-model'])).toMatchObject({
    code: 2,
    err: expect.stringContaining('There is no model'),
  });
});

it('reads a text from another command', async () => {
  if (process.platform === 'win32') return;
  const line = `'${process.execPath}' '${cli}' eval ${SHORT_LLAMA} --json --quiet --text`;
  const write = "echo 'Once upon a time there was a girl who had three cats.'";
  for (const command of [`${line} <(${write})`, `${write} | ${line} /dev/stdin`]) {
    const { stdout } = await promisify(execFile)('bash', ['-c', command]);
    expect(JSON.parse(stdout)).toMatchObject({ models: [{ perplexity: [{ tokenCount: 19 }] }] });
  }
});
