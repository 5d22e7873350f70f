import { ModelFormatError, OptionError } from '../../src/errors.js';
import { addMeasurements } from '../../src/report/add-measurements.js';
import { BENCHMARK_REPORT, BIAS_RESULT, PRUNE_REPORT } from '../support/cli.js';

const protocol = (tokensSha256: string) => ({
  tokensSha256,
  windowLength: 8,
  stride: 8,
  windowCount: 1,
  tokenCount: 7,
});
const model = (name: string, perplexity: number, tokensSha256 = 'aa') => ({
  model: name,
  perplexity: [{ text: 'a.txt', perplexity, protocol: protocol(tokensSha256) }],
});

describe('measurements of an evaluation', () => {
  it('are paired, whatever their order and the spelling of the folders', () => {
    const { metrics } = addMeasurements(
      PRUNE_REPORT,
      { models: [model('./pruned/', 20), model('other', 5), model('dense', 10)] },
      'eval.json',
    );
    expect(metrics).toEqual([
      { kind: 'perplexity', name: 'a.txt', dense: 10, pruned: 20, better: 'lower', protocol: protocol('aa') },
    ]);
  });

  it('have an interval of the change in perplexity, from paired windows', () => {
    const windows = (...nlls: readonly number[]) => nlls.map((nll) => ({ nll, tokenCount: 1 }));
    const measured = (name: string, perplexity: number, losses: ReturnType<typeof windows>) => {
      const [found] = model(name, perplexity).perplexity;
      return { model: name, perplexity: [{ ...found, windows: losses }] };
    };
    const models = [measured('dense', 10, windows(1, 3, 5)), measured('pruned', 20, windows(1.7, 3.7, 5.7))];
    const [metric] = addMeasurements(PRUNE_REPORT, { models }, 'eval.json').metrics!;
    expect(metric!.changeInterval).toEqual([expect.closeTo(Math.expm1(0.7)), expect.closeTo(Math.expm1(0.7))]);
  });

  it('have the verdict on a perplexity from the comparison of that text', () => {
    const models = [model('dense', 10), model('pruned', 20)];
    const comparison = (kind: 'task' | 'perplexity', verdict: string) => ({
      kind,
      file: 'a.txt',
      a: 'dense',
      b: 'pruned',
      verdict,
    });
    const { kind: _task, ...ofTask } = comparison('task', 'better');
    const ofOtherModel = { ...comparison('perplexity', 'worse'), b: 'other' };
    const comparisons = [ofTask, ofOtherModel, comparison('perplexity', 'same')];
    const { metrics } = addMeasurements(PRUNE_REPORT, { models, comparisons }, 'eval.json');
    expect(metrics).toMatchObject([{ kind: 'perplexity', verdict: 'same' }]);
    const { verdict: _, ...withoutVerdict } = comparison('perplexity', 'same');
    const [metric] = addMeasurements(PRUNE_REPORT, { models, comparisons: [withoutVerdict] }, 'eval.json').metrics!;
    expect(metric).not.toHaveProperty('verdict');
  });

  it('have a verdict for each figure, from the test of that figure', () => {
    const difference = (size: number) => ({ difference: size, interval: [size - 0.01, size + 0.01] });
    const comparison = {
      file: 'piqa.jsonl',
      a: 'dense',
      b: 'pruned',
      verdict: 'better',
      deciding: ['goldNll'],
      acc: difference(0),
      goldNll: difference(-0.5),
    };
    const task = (goldNll: number) => [{ file: 'piqa.jsonl', acc: 0.6, goldNll }];
    const { metrics } = addMeasurements(
      PRUNE_REPORT,
      {
        models: [
          { model: 'dense', tasks: task(2) },
          { model: 'pruned', tasks: task(1.5) },
        ],
        comparisons: [comparison],
      },
      'eval.json',
    );
    expect(metrics).toMatchObject([
      { name: 'piqa.jsonl, acc', verdict: 'same', changeInterval: [-0.01, 0.01] },
      { name: 'piqa.jsonl, -ln p of the right answer', verdict: 'better', unit: 'nats' },
    ]);
  });

  it('have no verdict on a figure if the comparison does not name the deciding ones', () => {
    const measured = {
      models: [{ model: 'pruned', tasks: [{ file: 'piqa.jsonl', acc: 0.6, goldNll: 2 }] }],
      comparisons: [{ file: 'piqa.jsonl', a: 'dense', b: 'pruned', verdict: 'worse' }],
    };
    for (const metric of addMeasurements(PRUNE_REPORT, measured, 'eval.json').metrics!)
      expect(metric).not.toHaveProperty('verdict');
  });

  it('may lack the dense model', () => {
    const { metrics } = addMeasurements(PRUNE_REPORT, { models: [model('pruned', 20)] }, 'eval.json');
    expect(metrics![0]).not.toHaveProperty('dense');
  });

  it('replace earlier measurements of the same name', () => {
    const once = addMeasurements(PRUNE_REPORT, { models: [model('pruned', 20)] }, 'eval.json');
    const twice = addMeasurements(once, { models: [model('pruned', 21)] }, 'eval.json');
    expect(twice.metrics!.map(({ pruned }) => pruned)).toEqual([21]);
  });

  it('keep those of the same name and another kind', () => {
    const speed = { kind: 'speed', name: 'a.txt', pruned: 5, better: 'higher' } as const;
    const report = { ...PRUNE_REPORT, metrics: [speed] };
    const { metrics } = addMeasurements(report, { models: [model('pruned', 20)] }, 'eval.json');
    expect(metrics!.map(({ kind }) => kind)).toEqual(['speed', 'perplexity']);
  });

  it('name texts and tasks without their folders', () => {
    const { metrics } = addMeasurements(
      PRUNE_REPORT,
      {
        models: [
          {
            model: 'pruned',
            divergence: [
              {
                text: '/data/texts/a.txt',
                reference: 'dense',
                klDivergence: 0.2,
                top1Agreement: 0.8,
                protocol: protocol('aa'),
              },
            ],
            tasks: [{ file: '/data/tasks/piqa.jsonl', acc: 0.6 }],
          },
        ],
      },
      'eval.json',
    );
    expect(metrics!.map(({ name }) => name)).toEqual([
      'divergence (KL), a.txt',
      'same first choice, a.txt',
      'piqa.jsonl, acc',
    ]);
  });

  it('include accuracies with their standard errors', () => {
    const tasks = (acc: number) => [{ file: 'piqa.jsonl', acc, accStderr: 0.02, accNorm: acc + 0.1 }];
    const { metrics } = addMeasurements(
      PRUNE_REPORT,
      {
        models: [
          { model: 'dense', tasks: tasks(0.6) },
          { model: 'pruned', tasks: tasks(0.5) },
        ],
      },
      'eval.json',
    );
    expect(metrics).toEqual([
      {
        kind: 'accuracy',
        name: 'piqa.jsonl, acc',
        dense: 0.6,
        pruned: 0.5,
        better: 'higher',
        standardErrors: { dense: 0.02, pruned: 0.02 },
      },
      { kind: 'accuracy', name: 'piqa.jsonl, accNorm', dense: 0.7, pruned: 0.6, better: 'higher' },
    ]);
  });

  it('include the verdict of the paired test, and the divergence', () => {
    const task = { file: 'piqa.jsonl', itemCount: 300, acc: 0.6, accStderr: 0.02 };
    const intervals = { klDivergence: [0.1, 0.3], top1Agreement: [0.7, 0.9] };
    const divergence = [{ text: 'a.txt', klDivergence: 0.2, top1Agreement: 0.8, intervals, protocol: protocol('aa') }];
    const { metrics } = addMeasurements(
      PRUNE_REPORT,
      {
        models: [
          { model: 'dense', tasks: [task], divergence: [] },
          {
            model: 'pruned',
            tasks: [task],
            divergence: ['dense', 'other'].flatMap((reference) => divergence.map((one) => ({ ...one, reference }))),
          },
        ],
        comparisons: [
          { file: 'piqa.jsonl', a: 'other', b: 'pruned', verdict: 'worse' },
          { file: 'piqa.jsonl', a: 'dense', b: './pruned', verdict: 'same' },
        ],
      },
      'eval.json',
    );
    expect(metrics).toMatchObject([
      { name: 'divergence (KL), a.txt', dense: 0, pruned: 0.2, better: 'lower' },
      {
        name: 'same first choice, a.txt',
        dense: 1,
        pruned: 0.8,
        better: 'higher',
        changeInterval: [expect.closeTo(-0.3), expect.closeTo(-0.1)],
      },
      { name: 'piqa.jsonl, acc', verdict: 'same', note: 'piqa.jsonl: 300 items' },
    ]);
  });

  it.each([
    [{}, /eval\.json contains no measurements/],
    [null, /contains no measurements/],
    [{ models: [] }, /measured no model, not the pruned model pruned/],
    [{ models: [model('dense', 1)] }, /measured dense, not the pruned model pruned/],
    [{ models: [model('dense', 1, 'bb'), model('pruned', 1)] }, /different tokens of a\.txt/],
  ])('are refused if they are not of these models: %j', (measured, message) => {
    expect(() => addMeasurements(PRUNE_REPORT, measured, 'eval.json')).toThrow(OptionError);
    expect(() => addMeasurements(PRUNE_REPORT, measured, 'eval.json')).toThrow(message);
  });
});

describe('measurements of a benchmark', () => {
  const report = { ...PRUNE_REPORT, bytes: { before: 40_000, after: 3200 } };

  it('include speeds with the verdict of their comparison, load time and memory', () => {
    const { metrics } = addMeasurements(report, BENCHMARK_REPORT, 'bench.json');
    expect(metrics).toEqual([
      {
        kind: 'speed',
        name: 'reading a prompt',
        dense: 100,
        pruned: 1250,
        unit: 'tokens/s',
        better: 'higher',
        changeInterval: [expect.closeTo(11.4), expect.closeTo(11.6)],
        verdict: 'better',
        note: 'speeds: medians of 3 rounds, each of 128 tokens read and 32 written, on a processor',
      },
      expect.objectContaining({ name: 'writing', dense: 100, pruned: 1250, verdict: 'better' }),
      expect.objectContaining({ kind: 'speed', name: 'loading', unit: 'ms', better: 'lower' }),
      expect.objectContaining({ kind: 'memory', name: 'peak memory', dense: 2e9, pruned: 2e9, better: 'lower' }),
    ]);
    expect(addMeasurements({ ...report, metrics: metrics! }, BENCHMARK_REPORT, 'bench.json').metrics).toEqual(metrics);
  });

  it('may lack the dense model', () => {
    const alone = { ...BENCHMARK_REPORT, models: BENCHMARK_REPORT.models.slice(1), comparisons: [] };
    const { metrics } = addMeasurements(report, alone, 'bench.json');
    for (const metric of metrics!) {
      expect(metric).not.toHaveProperty('dense');
      expect(metric).not.toHaveProperty('verdict');
    }
  });

  it.each([
    ['of other models', { ...report, out: 'other' }, /measured dense, pruned, not the pruned model other/],
    [
      'of a pruned model that has changed',
      { ...report, bytes: { before: 40_000, after: 1 } },
      /pruned with 3200 bytes/,
    ],
    ['of another dense model', { ...report, bytes: { before: 1, after: 3200 } }, /dense with 40000 bytes/],
  ])('are refused if they are %s', (_, other, message) => {
    const add = () => addMeasurements(other, BENCHMARK_REPORT, 'bench.json');
    expect(add).toThrow(OptionError);
    expect(add).toThrow(message);
  });
});

it('adds a bias with its perplexity', () => {
  const once = addMeasurements(PRUNE_REPORT, BIAS_RESULT, 'bias.json');
  const { perplexity, ...bias } = BIAS_RESULT;
  expect(once.bias).toEqual([bias]);
  expect(once.metrics).toEqual([perplexity]);
  expect(addMeasurements(once, BIAS_RESULT, 'bias.json')).toEqual(once);
});

describe('damaged measurements', () => {
  const report = { ...PRUNE_REPORT, bytes: { before: 40_000, after: 3200 } };
  const evaluation = {
    models: [
      {
        ...model('pruned', 20),
        divergence: [{ text: 'a', reference: 'dense', klDivergence: 1, top1Agreement: 1, protocol: protocol('aa') }],
        tasks: [{ file: 'piqa.jsonl', itemCount: 3, acc: 0.6, accStderr: 0.02, accNorm: 0.7, accNormStderr: 0.02 }],
      },
    ],
    comparisons: [{ file: 'piqa.jsonl', a: 'dense', b: 'pruned', verdict: 'same' }],
  };
  const KINDS = { evaluation, benchmark: BENCHMARK_REPORT, bias: BIAS_RESULT };

  it.each(Object.entries(KINDS))('of kind %s lead to a typed error, whatever field is wrong', (_, valid) => {
    expect(() => addMeasurements(report, valid, 'm.json')).not.toThrow();
    const codes = new Set<unknown>();
    for (const damaged of damage(valid)) {
      try {
        addMeasurements(report, damaged, 'm.json');
      } catch (error) {
        codes.add(Object(error).code);
      }
    }
    expect([...codes].sort()).toEqual(['ERR_MODEL_FORMAT', 'ERR_OPTION']);
  });

  it('are refused with the name of the field', () => {
    const add = (measured: object) => () => addMeasurements(report, measured, 'm.json');
    expect(add({ models: [{ model: 'pruned', tasks: [{ file: 'a', acc: 'much' }] }] })).toThrow(
      new ModelFormatError('m.json: models[0].tasks[0].acc is "much", expected a number. Measure again.'),
    );
    expect(add({ models: [null] })).toThrow(/^m.json: models\[0\] is null, expected an object\. /);
  });

  it('do not include an accuracy of a single item, which has no standard error', () => {
    const measured = { models: [{ model: 'pruned', tasks: [{ file: 'a', acc: 1, accStderr: null }] }] };
    expect(addMeasurements(report, measured, 'm.json').metrics![0]).not.toHaveProperty('standardErrors');
  });

  /** Copies of a value, in each of which one part at any depth is missing or another. */
  function* damage(value: unknown): Generator<unknown> {
    yield* [undefined, null, 3, 'x', [], {}, [null], true];
    if (typeof value !== 'object' || value === null) return;
    for (const key of Object.keys(value)) {
      for (const part of damage((value as Record<string, unknown>)[key])) {
        yield Array.isArray(value) ? value.with(Number(key), part) : { ...value, [key]: part };
      }
    }
  }
});
