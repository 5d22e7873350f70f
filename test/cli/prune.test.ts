import { createColors } from 'picocolors';
import { formatPruneReport } from '../../src/cli/prune.js';
import { formatLadder } from '../../src/cli/prune-ladder.js';
import type { PruneReport } from '../../src/report/report-schema.js';
import { PRUNE_REPORT, runWithDouble } from '../support/cli.js';

const QUALITY: NonNullable<PruneReport['quality']> = {
  perplexity: { dense: 22.7, pruned: 35.9, changeInterval: [0.5, 0.66] },
  divergence: { mean: 0.457 },
  top1Agreement: { mean: 0.61 },
  from: 'source',
  protocol: { tokensSha256: 'ab', windowLength: 128, stride: 128, windowCount: 8, tokenCount: 1016 },
};

describe('prune', () => {
  it('prints quality, and with --bench speed', async () => {
    const report = { ...PRUNE_REPORT, quality: QUALITY };
    const { calls, out } = await runWithDouble('prune dense --out pruned --sparsity 0.3 --bench', {
      prune: async () => report,
      rebuildReport: async () => ({ report, files: [] }),
    });
    expect(calls.map(([name]) => name)).toEqual(['prune', 'benchmark', 'rebuildReport']);
    expect(calls[0]![1]).not.toHaveProperty('bench');
    expect(calls[1]![1]).toMatchObject({ models: ['dense', 'pruned'] });
    expect(calls[2]![1]).toMatchObject({ report: 'pruned', add: [{ rounds: 3 }] });
    expect(out).toMatch(/perplexity, held-out calibration text +22.70 +35.90/);
    expect(out).toMatch(
      /as well as a guess among 35.90 equally likely ones on 1016 tokens of held-out calibration text/,
    );
    expect(out).toContain('decode, tokens/s');
    const { calls: rungs } = await runWithDouble('prune dense --out pruned --sparsity 0.1,0.3 --bench --report a.json');
    expect(rungs[1]![1]).toMatchObject({ models: ['dense', 'pruned/10', 'pruned/30'] });
    expect(rungs.slice(2).map(([, { report: place }]) => place)).toEqual(['a-10.json', 'a-30.json']);
    const dry = await runWithDouble('prune dense --sparsity 0.3 --bench --dry-run');
    expect([dry.exitCode, dry.calls.length]).toEqual([2, 0]);
    const none = await runWithDouble('prune dense --out pruned --sparsity 0.3 --no-evaluation');
    expect(none.calls[0]![1]).toMatchObject({ evaluation: false });
  });

  it('adds speeds to the report at the given path, or only to the output without a report', async () => {
    const report = { ...PRUNE_REPORT, bytes: { before: 40_000, after: 3200 } };
    const doubles = { prune: async () => report, rebuildReport: async () => ({ report, files: [] }) };
    const run = 'prune dense --out pruned --sparsity 0.3 --bench --json';
    const { calls } = await runWithDouble(`${run} --report a.json`, doubles);
    expect(calls[2]).toMatchObject(['rebuildReport', { report: 'a.json' }]);
    const without = await runWithDouble(`${run} --no-report`, doubles);
    expect(without.calls.map(([name]) => name)).toEqual(['prune', 'benchmark']);
    expect(JSON.parse(without.out).metrics).toContainEqual(expect.objectContaining({ name: 'writing', pruned: 1250 }));
  });

  it('passes only given flags to the API', async () => {
    const { calls } = await runWithDouble('prune dense --out pruned --sparsity 0.3');
    expect(calls).toEqual([
      [
        'prune',
        {
          model: 'dense',
          out: 'pruned',
          sparsity: 0.3,
          onProgress: expect.any(Function),
          signal: expect.any(AbortSignal),
        },
      ],
    ]);
  });

  it('passes all flags to the API', async () => {
    const { calls } = await runWithDouble(
      'prune dense -o pruned -s 30% -m o-fang -c cal.jsonl --windows 8 --window-length 128 --modules all --head-unit query ' +
        '--allocation global --metric loss --width-multiple 16 --minimum-width 25% --block-sparsity 0=0,1=0 --execution-provider cuda,cpu --seed 7 --force --dry-run',
    );
    expect(calls[0]?.[1]).toMatchObject({
      sparsity: 0.3,
      method: 'o-fang',
      calibration: { source: { file: 'cal.jsonl' }, windowCount: 8, windowLength: 128 },
      modules: 'all',
      headUnit: 'query',
      allocation: 'global',
      metric: 'loss',
      widthMultiple: 16,
      minimumWidth: 0.25,
      blockSparsity: { 0: 0, 1: 0 },
      executionProvider: ['cuda', 'cpu'],
      seed: 7,
      force: true,
      dryRun: true,
    });
  });

  it.each([
    ['--generate-calibration', true],
    ['--generate-calibration 25%', { share: 0.25 }],
    ['--no-generate-calibration', false],
    ['--start-token 2 --windows-file kept.jsonl', { startToken: 2, file: 'kept.jsonl' }],
    ['--generate-calibration 1 --start-token 0', { share: 1, startToken: 0 }],
  ])('parses %s', async (flags, generate) => {
    const { calls } = await runWithDouble(`prune dense --sparsity 0.3 --dry-run ${flags}`);
    expect(calls[0]?.[1]).toMatchObject({ calibration: { generate } });
  });

  it.each<[string, object]>([
    ['--grouping', { grouping: true }],
    ['--no-grouping', { grouping: false }],
    ['--heal-share 50%', { heal: { share: 0.5 } }],
    ['--method magnitude --no-generate-calibration', { method: 'magnitude', calibration: { generate: false } }],
    ['--per-block-kv-heads', { perBlockKvHeads: true }],
    [
      '--block-sparsity 0=0.5,3.ffn=20% --block-sparsity 3.attention=0',
      { blockSparsity: { 0: 0.5, 3: { ffn: 0.2, attention: 0 } } },
    ],
  ])('passes %s to the API', async (flags, expected) => {
    const { calls } = await runWithDouble(`prune dense --sparsity 0.3 --dry-run ${flags}`);
    const { model, sparsity, dryRun, onProgress, signal, ...rest } = calls[0]?.[1] ?? {};
    expect(rest).toEqual(expected);
  });

  it.each<[string, RegExp]>([
    ['--features residual', /--features was removed: set it in the API, prune\({ grouping: { features } }\)/],
    ['--temperature 9', /--temperature was removed: set it in the API, prune\({ weighting: { temperature } }\)/],
    ['--heal-text 1', /--heal-text was removed: set --heal-share, the fraction that the dense model generates/],
    ['--block-sparsity 0.5', /--block-sparsity.*such as 3=0.5 or 3.ffn=50%/],
    ['--sparsity 1.5', /--sparsity is 1.5; expected a fraction from 0 to below 1/],
    ['--skip-blocks 1', /--skip-blocks was removed: give these blocks the sparsity 0, such as --block-sparsity 0=0/],
    ['--width-multiple 0', /--width-multiple is 0; expected an integer of at least 1/],
    ['--windows 0', /--windows is 0; expected an integer of at least 1/],
    ['--seed=', /--seed is ""; expected an integer of at least 0/],
    ['--minimum-width 120%', /--minimum-width is "120%"; expected a number from 0 to 1/],
    ['--minimum-wdith 0', /unknown option '--minimum-wdith' \(Did you mean --minimum-width\?\)/],
    ['--method o-fnag', /--method is "o-fnag"; expected one of .* \(did you mean "o-fang"\?\)/],
    ['--method magnitude --no-generate-calibration --windows 8', /--windows has no effect in this run/],
    [
      '--method magnitude --windows 8',
      /--windows has no effect in this run: it applies only to methods, .* that read tokens/,
    ],
    ['--allocation uniform --minimum-width 0', /--minimum-width has no effect in this run/],
    ['--no-generate-calibration --start-token 2', /--start-token has no effect with --no-generate-calibration/],
    ['--statistics kept --window-length 128', /--window-length has no effect with --statistics/],
    ['--text t.txt', /--text measures the written model, and a --dry-run writes none/],
    [
      '--block-sparsity 3=0.5,3.ffn=0.2',
      /--block-sparsity names block 3 more than once \(3\.ffn=0\.2\); give one value/,
    ],
    ['--block-sparsity 3.ffn=0.5 --block-sparsity 3=0.2', /--block-sparsity names block 3 more than once \(3=0\.2\)/],
    ['--block-sparsity 3=0.5,03=0.2', /--block-sparsity names block 3 more than once \(03=0\.2\)/],
    ['--block-sparsity 3.ffn=0.5,3.ffn=0.2', /--block-sparsity names block 3 more than once/],
    ['--block-sparsity 3.fnn=0.5', /--block-sparsity.*such as 3=0.5 or 3.ffn=50%/],
  ])('refuses %s with the reason', async (flags, reason) => {
    const { calls, exitCode, err } = await runWithDouble(`prune dense --sparsity 0.3 --dry-run ${flags}`);
    expect(calls).toEqual([]);
    expect(exitCode).toBe(2);
    expect(err).toMatch(reason);
  });

  it.each(['--metric taste', '--allocation fair'])('refuses %s', async (flags) => {
    const { calls, exitCode } = await runWithDouble(`prune dense --sparsity 0.3 --dry-run ${flags}`);
    expect(calls).toEqual([]);
    expect(exitCode).toBe(2);
  });

  it('passes texts to the API', async () => {
    const { calls } = await runWithDouble('prune dense -o pruned -s 0.3 --text a,b.txt -t c.txt');
    expect(calls[0]?.[1]).toMatchObject({ evaluation: { texts: ['a,b.txt', 'c.txt'] } });
  });

  it('passes prompts to the API, and prints the texts of both models', async () => {
    const { calls } = await runWithDouble('prune dense -o pruned -s 0.3 --sample Once --sample Twice');
    expect(calls[0]?.[1]).toMatchObject({ evaluation: { prompts: ['Once', 'Twice'] } });
    const samples = [{ prompt: 'Once', dense: ' upon\na time', pruned: ' a a' }];
    expect(formatPruneReport({ ...PRUNE_REPORT, samples }, createColors(false))).toContain(
      '\nOnce\ndense  upon / a time\npruned a a\n',
    );
  });

  it('prints estimates of a dry run without --out', async () => {
    const { calls, exitCode, out } = await runWithDouble('prune dense --sparsity 0.3,0.5 --dry-run');
    expect(exitCode).toBe(0);
    expect(calls.map(([name]) => name)).toEqual(['plan']);
    expect(out).toBe(
      [
        'Would prune dense (auto, allocation global): 2.83 M parameters, 11.6 MB',
        '',
        'sparsity  parameters             bytes',
        '30 %          1.98 M  −30.0 %  8.10 MB',
        '50 %          1.41 M  −50.0 %  5.78 MB',
        '',
        'Sizes assume uniform pruning; a run measures how much to remove from each block.',
        '',
        'note: block 1 experts: stays as it is',
        '',
        'It would take about 3 min 3 s here, on 64 windows of 512 tokens, 32 of them generated by the model ' +
          '(generate 1 min 0 s, prune 2 min 3 s).',
        'It would take about 2.10 GB of memory, and temporarily up to 350 MB of disk next to the output.',
        '',
      ].join('\n'),
    );
  });

  it('prints estimated widths if they follow from the sparsity', async () => {
    const { out } = await runWithDouble('prune dense --sparsity 0.3 --dry-run --method flap');
    expect(out).toContain('0-1             8 -> 6   512 -> 360');
  });

  it.each(['--report r.json', '--recipe recipe', '--statistics kept'])(
    'runs a dry run, instead of an estimate, with %s',
    async (flags) => {
      const { calls } = await runWithDouble(`prune dense --sparsity 0.3 --dry-run ${flags}`);
      expect(calls[0]).toMatchObject(['prune', { dryRun: true }]);
    },
  );
});

describe('a ladder', () => {
  it('is pruned for several sparsities', async () => {
    const { calls, out } = await runWithDouble('prune dense -o pruned -s 0.1,20% --text t.txt');
    expect(calls.map(([name]) => name)).toEqual(['pruneLadder']);
    expect(calls[0]?.[1]).toMatchObject({
      model: 'dense',
      out: 'pruned',
      sparsity: [0.1, 0.2],
      evaluation: { texts: ['t.txt'] },
    });
    expect(out).toMatch(/^Ladder of dense \(flap, seed 0\)\n/);
  });

  it('is printed as one object with --json', async () => {
    const { out } = await runWithDouble('prune dense -o pruned -s 0.1 -s 0.2 --json');
    expect(JSON.parse(out).reports).toHaveLength(2);
  });

  const rung = (at: number, perplexities: Readonly<Record<string, readonly [dense: number, pruned: number]>>) => ({
    ...PRUNE_REPORT,
    out: `pruned/${at}0`,
    sparsity: { ...PRUNE_REPORT.sparsity, requested: at / 10, achieved: at / 10 },
    bytes: { before: 11_566_780, after: 10_000_000 - at * 1_000_000 },
    metrics: Object.entries(perplexities).map(([name, [dense, pruned]]) => ({
      kind: 'perplexity' as const,
      name,
      dense,
      pruned,
      better: 'lower' as const,
    })),
  });

  it('marks Pareto-optimal rungs', () => {
    const reports = [rung(1, { 't.txt': [4, 6] }), rung(2, { 't.txt': [4, 5] })];
    expect(formatLadder({ reports }, createColors(false))).toBe(
      [
        'Ladder of dense (flap, seed 0)',
        '',
        '           sparsity  parameters    bytes  perplexity  Pareto',
        'dense         0.0 %      2.83 M  11.6 MB        4.00       *',
        'pruned/10    10.0 %      2.10 M  9.00 MB        6.00',
        'pruned/20    20.0 %      2.10 M  8.00 MB        5.00       *',
        '',
        'Perplexity on t.txt. *: Pareto-optimal.',
        '',
        'note: dampening raised in block 0',
        '',
      ].join('\n'),
    );
  });

  it('shows every text, and compares rungs by their geometric mean', () => {
    const reports = [rung(1, { 'a.txt': [2, 4], 'b.txt': [8, 9] }), rung(2, { 'a.txt': [2, 9], 'b.txt': [8, 9] })];
    const out = formatLadder({ reports }, createColors(false));
    expect(out).toContain('pruned/10    10.0 %      2.10 M  9.00 MB        6.00       *\n');
    expect(out).toContain('perplexity  dense  pruned/10  pruned/20\na.txt        2.00       4.00       9.00\n');
    expect(out).toContain('Perplexity on 2 texts (their geometric mean). *:');
  });

  it('has no mean of perplexities with different window lengths', () => {
    const protocol = { tokensSha256: 'ab', stride: 1, windowCount: 1, tokenCount: 1 };
    const metrics = [512, 64].map((windowLength) => ({
      kind: 'perplexity' as const,
      name: `${windowLength}.txt`,
      dense: 4,
      pruned: 6,
      better: 'lower' as const,
      protocol: { ...protocol, windowLength },
    }));
    const out = formatLadder({ reports: [{ ...PRUNE_REPORT, metrics }] }, createColors(false));
    expect(out).not.toContain('Pareto');
    expect(out).toContain('64.txt       4.00    6.00');
    expect(out).toContain('different lengths');
  });

  it('has no column of perplexities if none was measured', () => {
    expect(formatLadder({ reports: [rung(1, {})] }, createColors(false))).not.toMatch(/perplexity|Pareto/i);
  });
});

it('applies a recipe', async () => {
  const { calls, out } = await runWithDouble('apply recipe dense -o pruned');
  expect(calls[0]).toMatchObject(['applyRecipe', { recipe: 'recipe', model: 'dense', out: 'pruned' }]);
  expect(out).toBe(
    'Pruned dense -> pruned by recipe\nparameters 2.83 M -> 2.10 M, bytes 11.6 MB -> 8.66 MB\nSHA-256 ab\n\n' +
      'folder  pruned\nnext    npx fang-prune bench dense pruned\n',
  );
});

it('heals a pruned folder', async () => {
  const { calls, out } = await runWithDouble('heal dense pruned -o healed --heal-windows 8 --windows-file mine.jsonl');
  const heal = { windowCount: 8 };
  const calibration = { generate: { file: 'mine.jsonl' } };
  expect(calls[0]).toMatchObject(['heal', { dense: 'dense', pruned: 'pruned', out: 'healed', heal, calibration }]);
  expect(out).toContain('Healed pruned -> healed\n');
  expect(out).toContain('went from 0.4000 to 0.3000 nats per token on held-out windows (step 16 of 16)');
});

it('heals if any flag of healing is given', async () => {
  const { calls } = await runWithDouble('prune dense -o pruned -s 0.3 --heal-windows 8');
  expect(calls[0]).toMatchObject(['prune', { heal: { windowCount: 8 } }]);
});

describe('formatPruneReport', () => {
  it('shows how many calibration windows the model generated', () => {
    const drawing = { seed: 3, startToken: 0, temperature: 1, documentLength: 128 };
    const generated = { windowCount: 32, share: 0.5, ...drawing, tokensSha256: 'ab' };
    const calibration = {
      kind: 'default-text',
      tokensSha256: 'cd',
      documentCount: 9,
      tokenCount: 16384,
      windowCount: 64,
      requestedWindowCount: 64,
      windowLength: 512,
      selection: 'first' as const,
      generated,
    };
    expect(formatPruneReport({ ...PRUNE_REPORT, calibration }, createColors(false))).toContain(
      '\nMeasured on 64 windows of 512 tokens, 32 of them generated by the model (seed 3).\n',
    );
  });

  it('shows perplexities, but no speeds, next to sizes', () => {
    const metric = { kind: 'perplexity', name: 't.txt', dense: 4, pruned: 5, better: 'lower' } as const;
    const speed = { kind: 'speed', name: 'writing', dense: 4, pruned: 5, better: 'higher' } as const;
    const out = formatPruneReport({ ...PRUNE_REPORT, metrics: [metric, speed] }, createColors(false));
    expect(out).toContain('\nperplexity, t.txt     4.00     5.00  +25.0 %\n');
    expect(out).not.toContain('writing');
  });

  it('shows sizes, widths and remarks', () => {
    expect(formatPruneReport(PRUNE_REPORT, createColors(false))).toBe(
      [
        'Pruned dense -> pruned (flap, seed 0)',
        '',
        '             before    after',
        'parameters   2.83 M   2.10 M  −25.7 %',
        'bytes       11.6 MB  8.66 MB  −25.1 %',
        '',
        'Removed 30.0 % of the prunable parameters (requested: 30 %), 25.7 % of all.',
        '',
        'block  attention heads  ffn neurons',
        '0-1             8 -> 6   512 -> 360',
        '2               8 -> 6   512 -> 512',
        '',
        'note: dampening raised in block 0',
        '',
        '1.5 s',
        '',
        'folder  pruned',
        'report  pruned/fang-prune-report.html',
        'next    npx fang-prune eval dense pruned --text YOUR-TEXT.txt --reference dense',
        '',
      ].join('\n'),
    );
  });

  it('shows the given path of the report, and suggests bench after an evaluation', () => {
    const request = { report: 'reports/a b.json', evaluation: { texts: ['t.txt'] } };
    const text = formatPruneReport({ ...PRUNE_REPORT, model: "it's" }, createColors(false), request);
    expect(text).toContain("report  reports/a b.html\nnext    npx fang-prune bench 'it'\\''s' pruned\n");
  });

  it('uses "would" in a dry run', () => {
    const { out: _, ...dry } = PRUNE_REPORT;
    const text = formatPruneReport(dry, createColors(false));
    expect(text).toContain('Would prune dense (flap');
    expect(text).toContain('Would remove 30.0 %');
    expect(text).not.toMatch(/folder|next|Removed/);
  });
});
