import { PRUNE_REPORT, runWithDouble, SIZE_REPORT, TRIMMED } from '../support/cli.js';

it('passes its flags to the API, and prints all candidates', async () => {
  const { calls, out } = await runWithDouble(
    'shrink dense -o small --target-size 60MB -t mine.txt --allow neurons,bits --dtypes q8,q4 --heal --no-certify',
  );
  expect(calls).toEqual([
    [
      'shrink',
      {
        model: 'dense',
        out: 'small',
        targetSize: '60MB',
        text: 'mine.txt',
        allow: ['neurons', 'bits'],
        dtypes: ['q8', 'q4'],
        heal: true,
        certify: false,
        onProgress: expect.any(Function),
        signal: expect.any(AbortSignal),
      },
    ],
  ]);
  expect(out).toContain('Shrank dense -> small');
  expect(out).toContain('(requested: at most 9.00 MB)');
  expect(out).toMatch(/\* +mixture +20 q8, 10 q4 +12\.5 % +8\.90 MB +0\.1000 +0\.0500 +0\.1500/);
});

it('says that a target memory includes the KV cache', async () => {
  const size = { ...SIZE_REPORT, contextLength: 2048 };
  const { out } = await runWithDouble('shrink dense -o small --target-memory 9MB --context 2048', {
    shrink: async () => [{ ...PRUNE_REPORT, size }],
  });
  expect(out).toContain('(requested: at most 9.00 MB together with the KV cache of 2048 tokens)');
});

it('passes several sizes to the API', async () => {
  const { calls } = await runWithDouble('shrink dense -o small --target-size 60MB,80MB');
  expect(calls[0]![1]).toMatchObject({ targetSize: ['60MB', '80MB'] });
  const { calls: inBytes } = await runWithDouble('shrink dense -o small --target-size 60000000,80000000');
  expect(inBytes[0]![1]).toMatchObject({ targetSize: ['60000000', '80000000'] });
});

it.each([
  [
    '--target-size 1,5MB',
    '--target-size is "1,5MB"; expected a size above 0 such as 60MB, 57MiB or 1.2GB (did you mean "1.5MB"?)',
  ],
  [
    '--target-memory 1,5GB --context 8',
    '--target-memory is "1,5GB"; expected a size above 0 such as 60MB, 57MiB or 1.2GB (did you mean "1.5GB"?)',
  ],
  ['--target-size 60,80MB', '--target-size is "60,80MB"; expected a size above 0'],
  ['--target-size 60MB,', '--target-size is "60MB,"; expected a size above 0'],
])('refuses %s', async (flags, message) => {
  const { calls, err } = await runWithDouble(`shrink dense -o small ${flags}`);
  expect(calls).toEqual([]);
  expect(err).toContain(message);
});

it('passes languages to the API, and prints the cost of the smaller vocabulary alone', async () => {
  const { rows, tokens, reasons, bytes, tables } = TRIMMED;
  const bitsPerByte = { before: 1.25, after: 1.275, from: 'source', textBytes: 8192 } as const;
  const vocabulary = { rows, tokens, reasons, bytes, tables, bitsPerByte };
  const { calls, out } = await runWithDouble('shrink dense -o small -s 60MB --keep-languages en,code', {
    shrink: async () => [{ ...PRUNE_REPORT, vocabulary }],
  });
  expect(calls[0]![1]).toMatchObject({ keepLanguages: ['en', 'code'] });
  expect(out).toContain(`${rows.before} -> ${rows.after} rows of the vocabulary`);
  expect(out).toContain(
    'The smaller vocabulary alone: 1.2500 -> 1.2750 bits per byte of the last quarter of your text (+2.0 %).',
  );
});

it('prints estimates of a dry run, unless --report is given', async () => {
  const { calls, out } = await runWithDouble('shrink dense --dry-run -s 60MB --statistics seen');
  expect(calls[0]).toEqual(['planShrink', expect.objectContaining({ targetSize: '60MB', statistics: 'seen' })]);
  expect(calls[0]![1]).not.toHaveProperty('dryRun');
  expect(out).toMatch(/smallest possible +20\.0 MB/);
  expect(out).toContain(
    '60.0 MB: q8 without 60.0 % of the prunable parameters, q4 without 12.5 % of the prunable parameters.',
  );
  expect(out).toMatch(/\* +mixture +2 q8, 40 q4 +10\.0 % +59\.9 MB +0\.0500 +0\.0200 +0\.0700/);
  expect(out).toContain('It would take about 2 min 10 s here, on 64 windows');
  const { calls: sizeless } = await runWithDouble('shrink dense --dry-run');
  expect(sizeless[0]![0]).toBe('planShrink');
  const { calls: whole } = await runWithDouble('shrink dense --dry-run -s 60MB --report r.json');
  expect(whole[0]).toEqual(['shrink', expect.objectContaining({ dryRun: true, report: 'r.json' })]);
  const { err } = await runWithDouble('shrink dense -o small -s 60MB --statistics seen');
  expect(err).toContain('--statistics has an effect only in a --dry-run');
});

it('names flags in errors, before the library is loaded', async () => {
  const { err } = await runWithDouble('shrink dense -o small --target-size 6 --dtypes q5');
  expect(err).toContain('--dtypes is "q5"; expected one of q8, q4, q4f16, q2, q2f16');
  const { err: lacking } = await runWithDouble('shrink dense -o small');
  expect(lacking).toContain('--target-size is missing');
});
