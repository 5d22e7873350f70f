import type { CliApi } from '../../src/cli/api.js';
import { OptionError } from '../../src/errors.js';
import { runWithDouble } from '../support/cli.js';

describe('eval', () => {
  it('passes all flags to the API in one call', async () => {
    const { calls } = await runWithDouble(
      'eval dense pruned --text a.txt --text b.txt --window-length 128 --stride 64 --windows 4 --no-bos ' +
        '--reference dense --tasks c.jsonl --limit 9 --resume kept.jsonl --embeddings e.onnx --execution-provider cuda,cpu',
    );
    expect(calls).toMatchObject([
      [
        'evaluateModels',
        {
          models: ['dense', 'pruned'],
          texts: ['a.txt', 'b.txt'],
          windowLength: 128,
          stride: 64,
          windowCount: 4,
          bos: false,
          reference: 'dense',
          tasks: ['c.jsonl'],
          limit: 9,
          resume: 'kept.jsonl',
          embeddings: 'e.onnx',
          executionProvider: ['cuda', 'cpu'],
        },
      ],
    ]);
  });

  it('prints models side by side', async () => {
    const { out } = await runWithDouble('eval dense pruned --text a.txt --generate Once');
    expect(out).toBe(
      'perplexity  dense  pruned\na.txt       12.35   12.35\n\ndense\nOnce upon a time\n\npruned\nOnce upon a time\n',
    );
  });

  it('shows divergence and tasks', async () => {
    const { out } = await runWithDouble('eval dense pruned --text a.txt --reference dense --tasks items.jsonl');
    expect(out.split('\n\n').slice(1)).toEqual([
      [
        'against the reference    dense       pruned',
        'a.txt, KL divergence            0.1234 nats',
        'a.txt, same top-1 token              90.0 %',
      ].join('\n'),
      [
        'task                                                dense         pruned',
        'items.jsonl (3), acc                        66.7 % ± 33.3  66.7 % ± 33.3',
        'items.jsonl (3), acc_norm                   33.3 % ± 33.3  33.3 % ± 33.3',
        'items.jsonl (3), -ln p of the right answer          1.500          1.500\n',
      ].join('\n'),
    ]);
  });

  it('prints whether models differ', async () => {
    const { out } = await runWithDouble('eval dense pruned --tasks items.jsonl --compare');
    expect(out).toContain('items.jsonl, 3 items: dense (A) and pruned (B)\n');
    expect(out).toContain('No difference beyond noise on 3 items');
    const { out: json } = await runWithDouble('eval dense pruned --tasks items.jsonl --compare --json');
    expect(JSON.parse(json)).toMatchObject({
      models: [{ model: 'dense' }, { model: 'pruned' }],
      comparisons: [{ a: 'dense', b: 'pruned', verdict: 'same', itemCount: 3 }],
    });
  });

  it('passes the seed to the comparison', async () => {
    const seeds: unknown[] = [];
    await runWithDouble('eval dense pruned --tasks items.jsonl --generate Once --seed 3 --compare', {
      compareEvaluations(_, options) {
        seeds.push(options?.seed);
        return [];
      },
    });
    expect(seeds).toEqual([3]);
  });

  it('prints no standard error of a single item', async () => {
    const evaluateModels: CliApi['evaluateModels'] = async ({ models }) =>
      models.map((model) => ({
        model,
        perplexity: [],
        divergence: [],
        tasks: [
          {
            file: 'one.jsonl',
            taskSha256: 'ab',
            kind: 'last-word',
            itemCount: 1,
            answers: [],
            acc: 1,
            accStderr: Number.NaN,
            goldNll: 0.5,
            perplexity: Math.exp(0.5),
          } as never,
        ],
      }));
    const { out } = await runWithDouble('eval dense --tasks one.jsonl', { evaluateModels });
    expect(out).toMatch(/^one\.jsonl \(1\), acc +100\.0 %$/m);
  });

  it('prints whether perplexities differ, without tasks', async () => {
    const evaluateModels: CliApi['evaluateModels'] = async ({ models }) =>
      models.map((model, at) => ({
        model,
        perplexity: [
          {
            text: 'a.txt',
            perplexity: 20,
            negativeLogLikelihood: 3,
            tokenCount: 400,
            windowCount: 4,
            windows: [3, 4, 2, 3].map((loss, index) => ({
              nll: 100 * (loss + at * (0.1 + index / 50)),
              tokenCount: 100,
            })),
            protocol: { tokensSha256: 'ab', windowLength: 101, stride: 101, windowCount: 4, tokenCount: 400 },
          },
        ],
        divergence: [],
        tasks: [],
      }));
    const { out, exitCode } = await runWithDouble('eval dense pruned --text a.txt --compare', { evaluateModels });
    expect(exitCode).toBe(0);
    expect(out.split('\n\n')[1]).toBe(
      [
        'a.txt, 4 windows: dense (A) and pruned (B)',
        '                   A      B  B - A   95 % interval      p',
        'ln perplexity  3.000  3.130  0.130  0.089 to 0.171  0.002',
        'B is worse: its perplexity is 13.9 % higher (95 % interval 9.3 to 18.7 %).\n',
      ].join('\n'),
    );
    const { out: few } = await runWithDouble('eval dense pruned --text a.txt --compare');
    expect(few).toContain('1 window cannot show whether a difference is noise');
  });

  it('generates text without an evaluation', async () => {
    const { calls } = await runWithDouble('eval dense --generate Once --new-tokens 5 --seed 3');
    expect(calls).toMatchObject([['generateText', { prompt: 'Once', newTokens: 5, seed: 3 }]]);
  });

  it('names --stride in a message about one of several texts', async () => {
    const evaluateModels = () =>
      Promise.reject(new OptionError('my text.txt: stride is 100, expected an integer, 1 to 64'));
    const { err } = await runWithDouble('eval dense --text a.txt --stride 100', { evaluateModels });
    expect(err).toContain('my text.txt: --stride is 100, expected an integer, 1 to 64');
  });

  it('refuses a prompt that is too long before the evaluation', async () => {
    const { calls, err } = await runWithDouble('eval dense pruned --text a.txt --generate Once', {
      async generateText({ model, prompt }) {
        if (model === 'pruned') throw new OptionError('the prompt has 300 tokens, and the model reads at most 256');
        return { text: prompt };
      },
    });
    expect(calls.map(([name]) => name)).toEqual(['generateText', 'generateText']);
    expect(err).toContain('the prompt has 300 tokens');
  });

  it.each([
    ['eval dense', "'--tasks FILE'"],
    ['eval dense --tasks a.jsonl --compare', "'--compare' needs two models"],
    ['eval dense pruned --generate Once --compare', "'--compare' needs two models and '--text FILE' or '--tasks FILE'"],
    ['eval dense --tasks a.jsonl --reference other', "needs a '--text FILE'"],
    ['eval dense --text a.txt --new-tokens 5', '--new-tokens has no effect without --generate; leave it out'],
    ['eval dense --text a.txt --temperature 0.5', '--temperature has no effect without --generate; leave it out'],
    ['eval dense --text a.txt --seed 3', '--seed has no effect without --generate and without --compare; leave it out'],
  ])('refuses `%s`', async (commandLine, message) => {
    const { exitCode, err, calls } = await runWithDouble(commandLine);
    expect({ exitCode, calls }).toEqual({ exitCode: 2, calls: [] });
    expect(err).toContain(message);
  });

  it('prints how to resume after Ctrl-C with --resume', async () => {
    const interrupted = { evaluateModels: () => Promise.reject(new Error('aborted')) };
    const run = (flags: string) =>
      runWithDouble(`eval dense --tasks a.jsonl${flags}`, interrupted, AbortSignal.abort());
    expect(await run(' --resume kept.jsonl')).toMatchObject({
      exitCode: 130,
      err: 'fang-prune: interrupted; run the same command again to resume from kept.jsonl\n',
    });
    expect((await run('')).err).toBe('fang-prune: interrupted; nothing was written\n');
  });
});
