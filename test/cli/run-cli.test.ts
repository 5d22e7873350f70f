import { ALLOCATIONS } from '../../src/allocation/allocations.js';
import { METHODS } from '../../src/compensation/methods.js';
import { EngineError, ModelFormatError, NumericalError, OptionError, UnsupportedModelError } from '../../src/errors.js';
import { VERSION } from '../../src/version.js';
import { runWithDouble } from '../support/cli.js';

const failWith = (error: unknown) => ({ describe: () => Promise.reject(error) });

describe('exit codes', () => {
  it.each([
    [2, new OptionError('sparsity must be below 1')],
    [3, new ModelFormatError('the file ends early')],
    [4, new UnsupportedModelError('block 0 has no ffn')],
    [5, new NumericalError('weights are NaN')],
    [6, new EngineError('cannot load a graph')],
    [1, new TypeError('x is undefined')],
    [1, 'not even an Error'],
  ])('is %i for %s', async (exitCode, error) => {
    expect((await runWithDouble('describe dense', failWith(error))).exitCode).toBe(exitCode);
  });

  it.each([
    ['prune dense --out pruned --sparsty 0.4', "unknown option '--sparsty' (Did you mean --sparsity?)"],
    ['prune dense --out pruned --sparsity much', 'Expected a number'],
    ['prune dense --out pruned --sparsity 0.3 --seed 1.5', 'Expected a whole number'],
    ['prune dense --out pruned --sparsity 0.3 --sparsty 0.4', "unknown option '--sparsty' (Did you mean --sparsity?)"],
    ['describe', "missing required argument 'model'"],
    ['shrink dense', "unknown command 'shrink'"],
  ])('is 2 for `%s`, and the message says %s', async (commandLine, said) => {
    const { exitCode, err, out, calls } = await runWithDouble(commandLine);
    expect(exitCode).toBe(2);
    expect(err).toContain(said);
    expect(err).toMatch(/^fang-prune: .*\(add '--help' for the options\)\n$/);
    expect(out).toBe('');
    expect(calls).toEqual([]);
  });

  it.each([
    ['prune dense --out pruned', '--sparsity is missing; expected'],
    ['prune dense --sparsity 0.3', '--out is missing: name the folder to write, or ask for a --dry-run'],
    ['prune dense --out pruned --sparsity 0.3 --modules embeddings', '--modules is "embeddings"; expected one of ffn,'],
    ['observe dense --out stats --method magnitude', '--method magnitude looks at no token'],
    ['bench dense --rounds 1', '--rounds is 1; expected a whole number of at least 2'],
    ['compare a.json b.json --confidence 2', '--confidence is 2; expected a number between 0 and 1'],
    ['bias dense pruned --text a.txt --read 0', '--read is 0; expected a whole number of at least 1'],
    ['eval dense', "'--text FILE'"],
    ['eval dense --text a.txt --stride 0', '--stride is 0; expected a whole number of at least 1'],
    ['report pruned --out page.html', '--out is "page.html"; expected a path that ends in .json'],
  ])('is 2 for `%s` before the library is loaded, and the message says %s', async (commandLine, said) => {
    const { exitCode, err, out, calls } = await runWithDouble(commandLine);
    expect({ exitCode, out, calls }).toEqual({ exitCode: 2, out: '', calls: [] });
    expect(err).toContain(said);
  });

  it("says the library's errors in the command line's words", async () => {
    const error = new OptionError('calibration.windowLength is 600, but the model reads at most 512 tokens', {
      option: 'calibration.windowLength',
    });
    const { err } = await runWithDouble('prune dense -o out -s 0.3', { prune: () => Promise.reject(error) });
    expect(err).toBe('fang-prune: --window-length is 600, but the model reads at most 512 tokens\n');
  });

  it.each(['--help', '--version', 'prune --help', 'prune --help-all'])('is 0 for `%s`', async (commandLine) => {
    const { exitCode, out, err } = await runWithDouble(commandLine);
    expect(exitCode).toBe(0);
    expect(out).not.toBe('');
    expect(err).toBe('');
  });

  it('shows everyday flags on a screen, and all on demand', async () => {
    const { out: everyday } = await runWithDouble('prune --help');
    expect(everyday.split('\n').length).toBeLessThanOrEqual(50);
    expect(Math.max(...everyday.split('\n').map((line) => line.length))).toBeLessThanOrEqual(80);
    for (const heading of ['Result', 'Budget', 'Method', 'Calibration', 'Evaluation', 'Running', 'Output'])
      expect(everyday).toContain(`\n${heading}:\n`);
    expect(everyday).not.toContain('--minimum-width');
    const { out: all } = await runWithDouble('prune --help-all');
    for (const name of ['--minimum-width', '--no-quotes', ...Object.keys(METHODS), ...Object.keys(ALLOCATIONS)])
      expect(all).toContain(name);
  });

  it('is 2 without a command, with the help on stderr', async () => {
    const { exitCode, out, err } = await runWithDouble('');
    expect({ exitCode, out }).toEqual({ exitCode: 2, out: '' });
    expect(err).toContain('Usage: fang-prune');
  });

  it('prints its version', async () => {
    expect((await runWithDouble('--version')).out).toBe(`${VERSION}\n`);
  });

  it('is 130 when the job was interrupted, whatever error it ended with', async () => {
    const { exitCode, err } = await runWithDouble(
      'describe dense',
      failWith(new Error('stopped')),
      AbortSignal.abort(),
    );
    expect(exitCode).toBe(130);
    expect(err).toContain('interrupted');
  });
});

describe('error messages', () => {
  it('are one line', async () => {
    const { err } = await runWithDouble('describe dense', failWith(new EngineError('it broke\n  at node 3\n')));
    expect(err).toBe('fang-prune: it broke at node 3\n');
  });

  it('show the stack of the error and its cause with --verbose', async () => {
    const error = new EngineError('it broke', { cause: new RangeError('deep down') });
    const { err } = await runWithDouble('describe dense --verbose', failWith(error));
    expect(err).toMatch(/^fang-prune: it broke\nEngineError: it broke\n {4}at /);
    expect(err).toContain('caused by RangeError: deep down');
  });

  it('point to --verbose when the error was not foreseen', async () => {
    expect((await runWithDouble('describe dense', failWith(new TypeError('x is undefined')))).err).toContain(
      '--verbose',
    );
  });
});

describe('--json', () => {
  it.each([
    'prune dense --out pruned --sparsity 0.3 --json',
    'describe dense --json',
    'eval dense pruned --text a.txt --generate Once --json',
  ])('prints one object for `%s`', async (commandLine) => {
    const { out, exitCode } = await runWithDouble(commandLine);
    expect(exitCode).toBe(0);
    expect(out.endsWith('\n')).toBe(true);
    expect(JSON.parse(out)).toEqual(expect.any(Object));
  });

  it('keeps progress off stdout', async () => {
    const { out, err } = await runWithDouble('describe dense --json', {
      describe: async ({ onProgress }) => {
        onProgress?.({ stage: 'load', done: 0, total: 2, detail: 'weights' });
        throw new ModelFormatError('the file ends early');
      },
    });
    expect(JSON.parse(out)).toEqual({ error: { code: 'ERR_MODEL_FORMAT', message: 'the file ends early' } });
    expect(err).toBe(' 0 %  load, weights\nfang-prune: the file ends early\n');
  });

  it('prints one object for a usage error', async () => {
    const { out } = await runWithDouble('prune dense --json --sparsity much');
    expect(JSON.parse(out).error.code).toBe('ERR_USAGE');
  });
});
