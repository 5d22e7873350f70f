import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { OptionError } from '../../src/errors.js';
import { compareEvaluations, compareFiles, type EvaluatedModel, evaluateModels, prune } from '../../src/node.js';
import { FUSED_LLAMA } from '../support/short-llama.js';
import { useTemporaryFolder } from '../support/temporary-folder.js';
import { TINY_LLAMA } from '../support/tiny-llama.js';

const folder = useTemporaryFolder();
const at = (path: string) => join(folder(), path);

it('finds a pruned copy worse and the same model equal, from every kind of file', async () => {
  await prune({
    model: FUSED_LLAMA,
    out: at('pruned'),
    sparsity: 0.4,
    method: 'magnitude',
    certify: false,
    evaluation: false,
  });
  const tasks = [join(TINY_LLAMA, 'tasks/arithmetic.jsonl')];
  const resume = at('kept.jsonl');
  const texts = [join(TINY_LLAMA, 'text/prose.txt')];
  const windows = { windowLength: 32, windowCount: 6 };
  const request = { models: [FUSED_LLAMA, at('pruned')], tasks, limit: 60, texts, ...windows, resume };
  const models = await evaluateModels(request);
  const dense = { ...models[0]!, model: 'dense' };
  await writeFile(at('a.json'), JSON.stringify({ models: [dense] }));
  await writeFile(at('both.json'), JSON.stringify({ models: [models[0], models[1]] }));

  const [sameText, same] = compareEvaluations([dense, models[0]!]);
  expect(sameText).toMatchObject({ kind: 'perplexity', a: 'dense', windowCount: 6, verdict: 'same' });
  expect(same).toMatchObject({ a: 'dense', b: FUSED_LLAMA, itemCount: 60, verdict: 'same' });
  const [differentText, different] = compareEvaluations(models);
  expect(differentText).toMatchObject({ file: texts[0], a: FUSED_LLAMA, b: at('pruned'), verdict: 'worse' });
  const [a, b] = models.map(({ perplexity }) => perplexity[0]!.negativeLogLikelihood);
  expect(differentText).toMatchObject({ logPerplexity: { a: expect.closeTo(a!, 12), b: expect.closeTo(b!, 12) } });
  expect(different).toMatchObject({ a: FUSED_LLAMA, b: at('pruned'), verdict: 'worse' });
  expect(different!.summary).toMatch(/^B is worse by \d+\.\d points of acc/);

  expect(await compareFiles({ files: [resume] })).toEqual([differentText, different]);
  expect(await compareFiles({ files: [at('both.json')] })).toEqual([differentText, different]);
  expect(await compareFiles({ files: [at('a.json'), at('both.json')] })).toEqual(
    [sameText, same, differentText, different].map((comparison) => ({ ...comparison, a: 'dense' })),
  );
  expect(await compareFiles({ files: [at('a.json'), resume] })).toHaveLength(4);
});

/** A model that was evaluated on one text only. */
const onText = (model: string, losses: readonly number[], text = 't.txt', textSha256 = text) => ({
  model,
  perplexity: [
    {
      text,
      windows: losses.map((loss) => ({ nll: 31 * loss, tokenCount: 31 })),
      protocol: { textSha256, windowLength: 32, stride: 32 },
    },
  ],
});

it('compares perplexities of texts with the same SHA-256', () => {
  const found = compareEvaluations([
    onText('a', [3, 4, 2, 3]),
    onText('b', [3.2, 4.1, 2.2, 3.1]),
    onText('c', [3, 4, 2, 3], 'moved/t.txt', 't.txt'),
  ]);
  expect(found).toMatchObject([
    { kind: 'perplexity', file: 't.txt', a: 'a', b: 'b', verdict: 'worse', windowCount: 4 },
    { kind: 'perplexity', file: 't.txt', a: 'a', b: 'c', verdict: 'same', windowCount: 4 },
  ]);
  const sure = { confidence: 0.999 };
  expect(compareEvaluations([onText('a', [3, 4, 2, 3]), onText('b', [3.2, 4.1, 2.2, 3.1])], sure)).toMatchObject([
    { confidence: 0.999, verdict: 'same' },
  ]);
});

it('refuses texts that were measured differently, and names them', () => {
  const a = onText('a', [3, 4, 2]);
  const refused = (b: EvaluatedModel) => expect(() => compareEvaluations([a, b]));
  refused(onText('b', [3, 4])).toThrow(OptionError);
  refused(onText('b', [3, 4])).toThrow(/^t\.txt, a \(A\) and b \(B\): .* windowCount is 3 in A and 2 in B/);
  refused(onText('b', [3, 4, 2], 't.txt', 'other')).toThrow(/t\.txt, a .* textSha256 is t\.txt in A and other in B/);
  refused(onText('b', [3, 4, 2], 'u.txt')).toThrow(/no text or task in common: a on t\.txt; b on u\.txt/);
});

it('reads perplexities from files of scores, with defaults for missing settings', async () => {
  const run = (model: string, protocol: object) => ({
    model,
    source: 't.txt',
    kind: 'perplexity',
    modelSha256: model,
    sourceSha256: 't.txt',
    protocol,
  });
  const scores = [31, 31, 31].flatMap((tokenCount, index) =>
    [0, 1].map((of) => ({ run: of, index, nll: tokenCount * (2 + index / 5 + of), tokenCount })),
  );
  const lines = (...protocols: object[]) => [
    { scores: { format: 1, runs: protocols.map((protocol, of) => run(`m${of}`, protocol)) } },
    ...scores,
  ];
  const write = (name: string, content: readonly object[]) =>
    writeFile(at(name), content.map((line) => `${JSON.stringify(line)}\n`).join(''));
  await write('scores.jsonl', lines({}, { windowLength: 32, stride: 32 }));
  expect(await compareFiles({ files: [at('scores.jsonl')] })).toMatchObject([
    { a: 'm0', b: 'm1', windowCount: 3, verdict: 'worse', logPerplexity: { difference: expect.closeTo(1, 10) } },
  ]);
  await write('cut.jsonl', lines({}, {}).slice(0, -1));
  await expect(compareFiles({ files: [at('cut.jsonl')] })).rejects.toThrow(/windowCount is 3 in A and 2 in B/);
  await write('bos.jsonl', lines({}, { windowLength: 31, stride: 31, bos: true }));
  await expect(compareFiles({ files: [at('bos.jsonl')] })).rejects.toThrow(/windowLength is 32 in A and 31 in B/);
});

it('refuses invalid files with the reason', async () => {
  const evaluation = (sha: string, extra = {}, kind = 'last-word') => ({
    model: sha,
    tasks: [
      {
        kind,
        file: `${sha}.jsonl`,
        protocol: { taskSha256: sha, delimiter: ' ', bos: false, ...extra },
        answers: [{ index: 0, isRight: true, goldNll: 1 }],
      },
    ],
  });
  const files: [string, unknown, RegExp][] = [
    ['text.json', undefined, /text.json is not JSON/],
    [
      'other.json',
      { models: [{ model: 'a', tasks: [{}] }] },
      /other.json is not an evaluation: expected the output of "fang-prune eval/,
    ],
    [
      'losses.json',
      {
        models: [
          { ...onText('a', [1]), perplexity: [{ ...onText('a', [1]).perplexity[0], windows: [{ nll: null }] }] },
        ],
      },
      /losses.json is not an evaluation/,
    ],
    ['choices.json', { models: [evaluation('a', {}, 'multiple-choice')] }, /choices.json is not an evaluation/],
    ['none.json', [], /none.json is not an evaluation/],
    ['one.json', { models: [evaluation('a')] }, /found 1 evaluated model; a comparison needs two/],
    [
      'apart.json',
      { models: [evaluation('a'), evaluation('b')] },
      /no text or task in common: a on a.jsonl; b on b.jsonl/,
    ],
    [
      'bos.json',
      { models: [evaluation('a'), evaluation('a', { bos: true })] },
      /a.jsonl was measured with different bos/,
    ],
  ];
  for (const [name, content, message] of files) {
    await writeFile(at(name), content === undefined ? 'acc 66' : JSON.stringify(content));
    await expect(compareFiles({ files: [at(name)], confidence: undefined })).rejects.toThrow(OptionError);
    await expect(compareFiles({ files: [at(name)] })).rejects.toThrow(message);
  }
  await writeFile(at('cut.jsonl'), '{"scores":{"format":1');
  await expect(compareFiles({ files: [at('cut.jsonl')] })).rejects.toThrow(OptionError);
  await expect(compareFiles({ files: [at('missing.json')] })).rejects.toThrow(/Cannot read .*missing.json/);
});
