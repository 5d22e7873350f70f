import { OptionError } from '../../src/errors.js';
import { type MultipleChoiceItem, readMultipleChoiceItems } from '../../src/evaluation/multiple-choice-items.js';

async function readAll(lines: readonly string[]): Promise<MultipleChoiceItem[]> {
  const items: MultipleChoiceItem[] = [];
  for await (const item of readMultipleChoiceItems(lines)) items.push(item);
  return items;
}

describe('readMultipleChoiceItems', () => {
  it('pairs a query with each choice', async () => {
    const [item] = await readAll(['', '{"id":3,"query":"q","choices":["a","b"],"gold":1}']);
    expect(item).toEqual({
      place: 'line 2',
      gold: 1,
      candidates: [
        { context: 'q', continuation: 'a' },
        { context: 'q', continuation: 'b' },
      ],
    });
  });

  it('pairs each context with the continuation', async () => {
    const [item] = await readAll(['{"contexts":["a","b"],"continuation":"c","gold":0}']);
    expect(item?.candidates).toEqual([
      { context: 'a', continuation: 'c' },
      { context: 'b', continuation: 'c' },
    ]);
  });

  it.each([
    ['no JSON', '{', /line 2 is not JSON/],
    ['no known fields', '{"question":"q"}', /line 2 has question; expected query/],
    ['no query', '{"choices":["a","b"],"gold":0}', /line 2: "query" is undefined/],
    ['one choice', '{"query":"q","choices":["a"],"gold":0}', /line 2: "choices"/],
    ['an empty choice', '{"query":"q","choices":["a",""],"gold":0}', /line 2: "choices"/],
    [
      'gold out of range',
      '{"query":"q","choices":["a","b"],"gold":2}',
      /line 2: gold is 2, expected an integer from 0 to 1/,
    ],
    ['gold as text', '{"query":"q","choices":["a","b"],"gold":"1"}', /line 2: gold is "1"/],
  ])('refuses %s', async (_, line, message) => {
    const lines = ['{"query":"q","choices":["a","b"],"gold":1}', line];
    await expect(readAll(lines)).rejects.toThrow(OptionError);
    await expect(readAll(lines)).rejects.toThrow(message);
  });
});
