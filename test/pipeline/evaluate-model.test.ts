import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { OptionError } from '../../src/errors.js';
import { evaluateTasks, generateText } from '../../src/node.js';
import { useTemporaryFolder } from '../support/temporary-folder.js';
import { TINY_LLAMA } from '../support/tiny-llama.js';

const folder = useTemporaryFolder();

it('reports the answer of a model to every item of a file', async () => {
  const result = await evaluateTasks({
    model: TINY_LLAMA,
    file: join(TINY_LLAMA, 'tasks/arithmetic.jsonl'),
    limit: 20,
  });
  expect(result.itemCount).toBe(20);
  // 170 of all 200 items are right.
  expect(result.acc).toBeGreaterThanOrEqual(0.6);
  expect(result.goldNll).toBeGreaterThan(0);
  expect(result.answers.map(({ index }) => index)).toEqual(Array.from({ length: 20 }, (_, index) => index));
  expect(result.answers.filter(({ isRight }) => isRight)).toHaveLength(20 * result.acc);
});

it('names the file and the line of a malformed item', async () => {
  const file = join(folder(), 'bad.jsonl');
  await writeFile(file, '{"query":"q","choices":["a","b"],"gold":1}\n{"query":"q","choices":["a","b"]}\n');
  const attempt = () => evaluateTasks({ model: TINY_LLAMA, file });
  await expect(attempt).rejects.toThrow(OptionError);
  await expect(attempt).rejects.toThrow(`${file} line 2 has no gold`);
});

it('generates no more tokens than the model has positions, and refuses longer prompts', async () => {
  // Its position table has 128 rows.
  const model = 'test/fixtures/exporters/llama-genai018-fp32';
  const { text } = await generateText({ model, prompt: 'Hello, world', newTokens: 200 });
  expect(text.length).toBeGreaterThan(100);
  const tooLong = () => generateText({ model, prompt: 'word '.repeat(300) });
  await expect(tooLong).rejects.toThrow(/^the prompt has \d+ tokens, but the model reads at most 128; shorten it$/);
});
