import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { OptionError } from '../../../src/errors.js';
import { compareEvaluations, compareFiles, evaluateModels, prune } from '../../../src/node.js';
import { useTemporaryFolder } from '../../support/temporary-folder.js';
import { TINY_LLAMA } from '../../support/tiny-llama.js';

const folder = useTemporaryFolder();
const at = (path: string) => join(folder(), path);

it('tells a model from a pruned copy, and not from itself, in whatever file it stands', async () => {
  await prune({ model: TINY_LLAMA, out: at('pruned'), sparsity: 0.4, method: 'magnitude' });
  const tasks = [join(TINY_LLAMA, 'tasks/arithmetic.jsonl')];
  const resume = at('kept.jsonl');
  const models = await evaluateModels({ models: [TINY_LLAMA, at('pruned')], tasks, limit: 100, resume });
  const dense = { ...models[0]!, model: 'dense' };
  await writeFile(at('a.json'), JSON.stringify({ models: [dense] }));
  await writeFile(at('both.json'), JSON.stringify({ models: [models[0], models[1]] }));

  const [same] = compareEvaluations([dense, models[0]!]);
  expect(same).toMatchObject({ a: 'dense', b: TINY_LLAMA, itemCount: 100, verdict: 'same' });
  const [different] = compareEvaluations(models);
  expect(different).toMatchObject({ a: TINY_LLAMA, b: at('pruned'), verdict: 'worse' });
  expect(different!.summary).toMatch(/^B is worse by \d+\.\d points of acc/);

  expect(await compareFiles({ files: [resume] })).toEqual([different]);
  expect(await compareFiles({ files: [at('both.json')] })).toEqual([different]);
  expect(await compareFiles({ files: [at('a.json'), at('both.json')] })).toEqual([same, { ...different, a: 'dense' }]);
});

it('says what is wrong with a file', async () => {
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
      /other.json is no evaluation: expected what "fang-prune eval/,
    ],
    ['choices.json', { models: [evaluation('a', {}, 'multiple-choice')] }, /choices.json is no evaluation/],
    ['none.json', [], /none.json is no evaluation/],
    ['one.json', { models: [evaluation('a')] }, /found 1 evaluated models; a comparison needs two/],
    ['apart.json', { models: [evaluation('a'), evaluation('b')] }, /no task in common: a on a.jsonl; b on b.jsonl/],
    [
      'bos.json',
      { models: [evaluation('a'), evaluation('a', { bos: true })] },
      /a.jsonl was measured with different bos/,
    ],
  ];
  for (const [name, content, message] of files) {
    await writeFile(at(name), content === undefined ? 'acc 66' : JSON.stringify(content));
    await expect(compareFiles({ files: [at(name)] })).rejects.toThrow(OptionError);
    await expect(compareFiles({ files: [at(name)] })).rejects.toThrow(message);
  }
  await writeFile(at('cut.jsonl'), '{"scores":{"format":1');
  await expect(compareFiles({ files: [at('cut.jsonl')] })).rejects.toThrow(OptionError);
  await expect(compareFiles({ files: [at('missing.json')] })).rejects.toThrow(/Cannot read .*missing.json/);
});
