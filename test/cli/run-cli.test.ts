import { readFileSync } from 'node:fs';
import { ALLOCATIONS } from '../../src/allocation/allocations.js';
import { benchCommand } from '../../src/cli/bench.js';
import { biasCommand } from '../../src/cli/bias.js';
import { evalCommand } from '../../src/cli/eval.js';
import { notesInFlags } from '../../src/cli/flags.js';
import { mergeCommand } from '../../src/cli/merge.js';
import { observeCommand } from '../../src/cli/observe.js';
import { pruneCommand } from '../../src/cli/prune.js';
import { quantizeCommand } from '../../src/cli/quantize.js';
import { METHODS } from '../../src/compensation/methods.js';
import { EngineError, ModelFormatError, NumericalError, OptionError, UnsupportedModelError } from '../../src/errors.js';
import { PRUNE } from '../../src/options/commands.js';
import { type Families, listRows, rowsOf } from '../../src/options/option.js';
import { VERSION } from '../../src/version.js';
import { runWithDouble } from '../support/cli.js';
import { sourceFiles } from '../support/read-imports.js';

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
    ['prune dense --out pruned --sparsity', '--sparsity is missing its value: <fraction>'],
    ['prune dense --out pruned -s .3 --gradient-power 1', '--gradient-power was removed: leave it out; it did not'],
    ['prune dense --out pruned --sparsity 0.3 --sparsty 0.4', "unknown option '--sparsty' (Did you mean --sparsity?)"],
    ['describe', '<model> is missing'],
    ['squash dense', "unknown command 'squash'"],
  ])('is 2 for `%s`, with the message %s', async (commandLine, message) => {
    const { exitCode, err, out, calls } = await runWithDouble(commandLine);
    expect(exitCode).toBe(2);
    expect(err).toContain(message);
    expect(err).toMatch(/^fang-prune: .*\(add '--help' for the options\)\n$/);
    expect(out).toBe('');
    expect(calls).toEqual([]);
  });

  it.each([
    ['prune dense --out pruned', '--sparsity is missing; expected a fraction from 0 to below 1, such as 0.3 or 30%\n'],
    [
      'prune dense --out pruned --sparsity 30',
      '--sparsity is 30; expected a fraction from 0 to below 1, such as 0.3 or 30% (did you mean "30%"?)',
    ],
    ['prune dense --out pruned --sparsity 0.1,30', '--sparsity is 30; '],
    [
      'prune dense --out pruned --sparsity 1',
      '--sparsity is 1; expected a fraction from 0 to below 1, such as 0.3 or 30%\n',
    ],
    ['prune dense --out pruned --sparsity 130%', '--sparsity is "130%"; '],
    ['prune dense --out pruned --sparsity much', '--sparsity is "much"; expected a fraction'],
    ['prune dense --out pruned -s .3 --method wandaa', 'o-fang, auto (did you mean "wanda"?)\n'],
    ['prune dense --out pruned -s .3 --method fang', '(did you mean "f-fang"?)'],
    ['prune dense --out pruned -s .3 --allocation globl', 'standardised, global, compared (did you mean "global"?)'],
    ['prune dense --out pruned -s .3 --dtype q44', '(did you mean "q4"?)'],
    ['prune dense --out pruned -s .3 --seed 1.5', '--seed is 1.5; expected an integer of at least 0'],
    [
      'prune dense --out pruned -s .3 --report page.html',
      '--report is "page.html"; expected a path that ends in .json',
    ],
    [
      'prune dense --out pruned -s .3 --block-sparsity x',
      '--block-sparsity is "x"; expected blocks and their sparsities, such as 3=0.5',
    ],
    ['prune dense --out pruned -s .3 --block-sparsity 3=2', '--block-sparsity of block 3 is 2; expected a fraction'],
    [
      'prune dense --out pruned -s .3 --generate-calibration 0',
      '--generate-calibration is 0; expected a fraction above 0',
    ],
    ['prune dense --out pruned -s .3 --no-evaluation --text a', '--text has no effect with --no-evaluation; '],
    ['prune dense --out pruned -s .3 --stop-healing', '--stop-healing has no effect without --heal; '],
    ['prune dense --out pruned -s .3 --layout genai', 'it applies only to --dtype; leave it out'],
    [
      'prune dense --out pruned -s .3 --statistics s --window-length 128',
      '--window-length has no effect with --statistics: ',
    ],
    ['prune dense --out pruned -s .3 --modules attention --grouping', 'it applies only to --modules "ffn" or "all"; '],
    ['quantize dense --out small', '--dtype is missing; expected one or several of fp32, fp16, q8'],
    ['apply recipe dense', '--out is missing; expected a path'],
    ['heal dense pruned --out healed --heal-weights al', '(did you mean "all"?)'],
    ['push folder notarepo', '<repo> is "notarepo"; expected a name on the Hub'],
    ['describe dense --threads x', '--threads is "x"; expected an integer'],
    ['prune dense --sparsity 0.3', '--out is missing: name the folder to write, or set --dry-run'],
    ['prune dense --out pruned --sparsity 0.3 --modules embeddings', '--modules is "embeddings"; expected one of ffn,'],
    ['observe dense --out stats --method magnitude', '--method magnitude reads no token'],
    ['bench dense --rounds 1', '--rounds is 1; expected an integer of at least 2'],
    ['compare a.json b.json --confidence 2', '--confidence is 2; expected a number between 0 and 1'],
    ['bias dense pruned --text a.txt --read 0', '--read is 0; expected an integer of at least 1'],
    ['eval dense', "'--text FILE'"],
    ['eval dense --text a.txt --stride 0', '--stride is 0; expected an integer of at least 1'],
    ['eval dense --tasks a.jsonl --windows 9', '--windows has no effect without --text; leave it out'],
    ['eval dense --text a.txt --limit 9', '--limit has no effect without --tasks; leave it out'],
    ['eval dense --text a.txt --temperature 1', '--temperature has no effect without --generate; leave it out'],
    ['report pruned --out page.html', '--out is "page.html"; expected a path that ends in .json'],
  ])('is 2 for `%s` before the library is loaded, with the message %s', async (commandLine, message) => {
    const { exitCode, err, out, calls } = await runWithDouble(commandLine);
    expect({ exitCode, out, calls }).toEqual({ exitCode: 2, out: '', calls: [] });
    expect(err).toContain(message);
  });

  it.each([
    `prune dense -o out -s .3 --method ${'m'.repeat(300)}`,
    `prune dense -o out -s ${'9'.repeat(300)}x`,
    `prune dense -o out -s .3 --${'m'.repeat(300)}`,
    `push folder ${'m'.repeat(300)}`,
    'm'.repeat(300),
  ])('truncates long values in messages: %.40s', async (commandLine) => {
    const { exitCode, err } = await runWithDouble(commandLine);
    expect(exitCode).toBe(2);
    expect(Math.max(...err.split(/\s/).map((word) => word.length))).toBeLessThanOrEqual(110);
    expect(err).toContain('...');
  });

  it('has no JavaScript syntax in messages about flags', async () => {
    for (const { name, families } of [
      pruneCommand,
      quantizeCommand,
      observeCommand,
      mergeCommand,
      evalCommand,
      benchCommand,
      biasCommand,
    ])
      for (const { row } of listRows(rowsOf(families as Families))) {
        const [flag, value] = [/--[\w-]+/.exec(row.flag ?? '')?.[0], /[<[]/.test(row.flag ?? '')];
        if (flag === undefined || !value) continue;
        const { err } = await runWithDouble(`${name} dense pruned -o out -s .3 --text t ${flag} \u0000?`);
        expect(err).not.toMatch(/\{ |\[\d|function|object|true or false|Infinity/);
      }
  });

  it("names flags in the library's errors", async () => {
    const error = new OptionError('calibration.windowLength is 600, but the model reads at most 512 tokens', {
      option: 'calibration.windowLength',
    });
    const { err } = await runWithDouble('prune dense -o out -s 0.3', { prune: () => Promise.reject(error) });
    expect(err).toBe('fang-prune: --window-length is 600, but the model reads at most 512 tokens\n');
  });

  it.each([
    [
      new UnsupportedModelError(
        'all attention stays; choose modules "ffn", or set perBlockKvHeads, so that heads may differ',
      ),
      'all attention stays; choose --modules "ffn", or set --per-block-kv-heads, so that heads may differ',
    ],
    [
      new NumericalError("block 0 ffn: NaN; use other calibration text, or set metric: 'output'"),
      'block 0 ffn: NaN; use other calibration text, or set --metric output',
    ],
    [
      new NumericalError('few tokens; "calibration.windowCount: 64" reads more'),
      'few tokens; "--windows 64" reads more',
    ],
    [
      new NumericalError('all begin with token 0; give other text (calibration.source), or set bos to false'),
      'all begin with token 0; give other text (--calibration), or give --no-bos',
    ],
    [
      new UnsupportedModelError('no cache; calibrate on a text alone (calibration.generate: false)'),
      'no cache; calibrate on a text alone (--no-generate-calibration)',
    ],
    [
      new UnsupportedModelError('choose modules "ffn", or name no modules, to prune what can be pruned'),
      'choose --modules "ffn", or name no --modules, to prune what can be pruned',
    ],
    [
      new EngineError('the model ran out of memory with modules on cpu'),
      'the model ran out of memory with modules on cpu',
    ],
  ] as const)('names flags in advice: %s', async (error, message) => {
    const { err, exitCode } = await runWithDouble('prune dense -o out -s 0.3', { prune: () => Promise.reject(error) });
    expect(err).toContain(message);
    expect(exitCode).toBeGreaterThan(2);
  });

  it('names flags in the notes of a result', () => {
    const text = 'Pruned with metric "x" perBlockKvHeads\n\nnote: without perBlockKvHeads all blocks keep as many\n';
    expect(notesInFlags(text, PRUNE)).toBe(
      'Pruned with metric "x" perBlockKvHeads\n\nnote: without --per-block-kv-heads all blocks keep as many\n',
    );
  });

  it.each(['--help', '--version', 'prune --help', 'prune --help-all'])('is 0 for `%s`', async (commandLine) => {
    const { exitCode, out, err } = await runWithDouble(commandLine);
    expect(exitCode).toBe(0);
    expect(out).not.toBe('');
    expect(err).toBe('');
  });

  it('shows at most 20 flags with --help, and all with --help-all', async () => {
    const { out: everyday } = await runWithDouble('prune --help');
    expect(everyday.split('\n').length).toBeLessThanOrEqual(58);
    expect(Math.max(...everyday.split('\n').map((line) => line.length))).toBeLessThanOrEqual(80);
    for (const heading of ['Result', 'Budget', 'Method', 'Calibration', 'Evaluation', 'Running', 'Output'])
      expect(everyday).toContain(`\n${heading}:\n`);
    expect(everyday).not.toContain('--minimum-width');
    const { out: all } = await runWithDouble('prune --help-all');
    const flagsIn = (help: string) => new Set(help.match(/^ {2}(?:-\w, )?--[\w-]+/gm)?.map((line) => line.trim()));
    const OUTPUT = ['--help-all', '--json', '--quiet', '--verbose', '--no-color', '-h, --help'];
    const own = (help: string) =>
      [...flagsIn(help)].filter((flag) => !OUTPUT.includes(flag) && !flag.startsWith('--no-'));
    expect(own(everyday).length).toBeLessThanOrEqual(20);
    expect(own(all).length).toBeLessThanOrEqual(45);
    for (const name of ['--minimum-width', '--no-quotes', ...Object.keys(METHODS), ...Object.keys(ALLOCATIONS)])
      expect(all).toContain(name);
  });

  it('ends every help with three examples, and mentions the Hub and the questions', async () => {
    const { out } = await runWithDouble('--help');
    expect(out).toMatch(/org\/name on the Hugging Face Hub\.\nIn a terminal, fang-prune without a command asks/);
    for (const name of ['prune', 'quantize', 'observe', 'heal', 'eval', 'bench', 'report', 'push']) {
      const { out: help } = await runWithDouble(`${name} --help`);
      expect(help.split('\nExamples:\n')[1]!.match(/^ {2}npx fang-prune \w+ /gm)).toHaveLength(3);
    }
    const { out: quantize } = await runWithDouble('quantize --help-all');
    expect(quantize.split('Quantisation:')[0]).not.toMatch(/prun(ed|ing) model/);
  });

  it('names every error code in the README', () => {
    const readme = readFileSync('README.md', 'utf8');
    const codes = sourceFiles().flatMap((file) => readFileSync(file, 'utf8').match(/'ERR_[A-Z_]+'/g) ?? []);
    const own = new Set(codes.map((code) => code.slice(1, -1)).filter((code) => !code.startsWith('ERR_SCRIPT_')));
    expect([...own].filter((code) => !readme.includes(`\`${code}\``))).toEqual([]);
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

  it('point to --verbose for unexpected errors', async () => {
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
    const { out } = await runWithDouble('prune dense --json --sparsity');
    expect(JSON.parse(out).error.code).toBe('ERR_USAGE');
  });
});
