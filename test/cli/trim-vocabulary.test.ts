import { runWithDouble } from '../support/cli.js';

it('passes its flags to the API, and prints what was trimmed', async () => {
  const { calls, out } = await runWithDouble(
    'trim-vocabulary dense -o small --keep-languages en,de --vocabulary-size 1500 -t a.txt --text b.txt --no-certify',
  );
  expect(calls).toEqual([
    [
      'trimVocabulary',
      {
        model: 'dense',
        out: 'small',
        keepLanguages: ['en', 'de'],
        vocabularySize: 1500,
        texts: ['a.txt', 'b.txt'],
        certify: false,
        onProgress: expect.any(Function),
        signal: expect.any(AbortSignal),
      },
    ],
  ]);
  expect(out).toContain('Trimmed dense -> small\n2048 -> 1500 rows of the vocabulary (26.8 % removed): ');
  expect(out).toContain(
    '1230 by languages, rank or list, 3 of the text, 10 that others are merged from, 257 that always remain',
  );
  expect(out).toContain('model.embed_tokens.weight  2048  1500  1.57 MB  1.15 MB');
  expect(out).toContain('logits of the remaining tokens equal those of the original bit for bit');
  expect(out).toContain('next    npx fang-prune eval dense small --text YOUR-TEXT.txt');
});

it('names flags in errors, before the library is loaded', async () => {
  const { err } = await runWithDouble('trim-vocabulary dense -o small --vocabulary-size 0');
  expect(err).toContain('--vocabulary-size is 0; expected an integer of at least 1');
});
