import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, realpathSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { findClashes } from './find-clashes.js';

const MODEL = 'examples/models/tiny-llama';

/** Makes calls that must be found, so that a trace without calls does not count as clean. */
const CONTROL = `
  require('node:fs').writeFileSync(process.argv[1], 'x');
  require('node:net').connect(9, '192.0.2.1').on('error', () => process.exit());
  setTimeout(() => process.exit(), 100);
`;

/** Environment variables that change paths, which are removed for a default run. */
const isSetting = (name: string) => /^(HF_|HUGGINGFACE|XDG_|ORT_|npm_|NODE_|FANG_)/i.test(name);

/**
 * Runs the built command line's default `prune` on the bundled model under strace, with an empty home folder.
 * @returns calls outside its output and the temporary folder; and files that remain in its home, temporary and current folders
 * @throws Error if tracing fails
 */
export function traceDefaultRun(more: readonly string[], say: (line: string) => void): readonly string[] {
  const root = realpathSync(mkdtempSync(join(tmpdir(), 'fang-prune-trace-')));
  const [home, temporary, folder, results] = ['home', 'tmp', 'cwd', 'results'].map((name) => join(root, name)) as [
    string,
    string,
    string,
    string,
  ];
  for (const made of [home, temporary, folder, results]) mkdirSync(made);
  const env = {
    ...Object.fromEntries(Object.entries(process.env).filter(([name]) => !isSetting(name))),
    HOME: home,
    TMPDIR: temporary,
    // strace does not see calls through io_uring.
    UV_USE_IO_URING: '0',
  };
  const out = join(results, 'smaller');
  const traced = (args: readonly string[]): readonly string[] => {
    const file = join(root, 'trace');
    const options = ['-f', '-y', '-qq', '-s', '4096', '-e', 'trace=%file,%network', '-e', 'signal=none', '-o', file];
    const { status, error, stderr } = spawnSync('strace', [...options, process.execPath, ...args], {
      cwd: folder,
      env,
      encoding: 'utf8',
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    if (error !== undefined)
      throw new Error(`strace cannot be started (${error.message}); on Debian: apt-get install strace`);
    if (status !== 0) throw new Error(`strace or the program ended with ${status}: ${stderr.slice(-2000)}`);
    const trace = readFileSync(file, 'utf8');
    say(`${args[1] === CONTROL ? 'control' : 'prune'}: ${trace.split('\n').length - 1} calls`);
    return findClashes(trace, { folder, places: [out, temporary] });
  };
  try {
    const control = traced(['-e', CONTROL, join(home, 'stray')]);
    rmSync(join(home, 'stray'));
    if (!control.some((call) => call.includes('stray')) || !control.some((call) => call.includes('192.0.2.1')))
      throw new Error(
        'the trace does not show a file that was written and a connection that was tried; is ptrace allowed here?',
      );
    const strays = traced([
      resolve('dist/cli.js'),
      'prune',
      resolve(MODEL),
      '--out',
      out,
      '--sparsity',
      '0.3',
      ...more,
    ]);
    const left = [home, temporary, folder].flatMap((place) =>
      readdirSync(place).map((name) => `left ${join(place, name)}`),
    );
    const beside = readdirSync(results).filter((name) => join(results, name) !== out);
    return [...strays, ...left, ...beside.map((name) => `left ${name} beside the output`)];
  } finally {
    rmSync(root, { recursive: true, force: true });
  }
}
