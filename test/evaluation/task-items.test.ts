import { OptionError } from '../../src/errors.js';
import { readTaskItems, type TaskItem } from '../../src/evaluation/task-items.js';

async function readAll(lines: readonly string[], name?: string): Promise<TaskItem[]> {
  const items: TaskItem[] = [];
  for await (const item of readTaskItems(lines, name)) items.push(item);
  return items;
}

describe('readTaskItems', () => {
  it('pairs a query with each choice', async () => {
    const [item] = await readAll(['', '{"id":3,"query":"q","choices":["a","😀b"],"gold":1}']);
    expect(item).toEqual({
      kind: 'multiple-choice',
      place: 'line 2',
      gold: 1,
      candidates: [
        { context: 'q', continuation: 'a', characterCount: 1 },
        { context: 'q', continuation: '😀b', characterCount: 2 },
      ],
    });
  });

  it('pairs each context with the continuation, and counts characters of contexts', async () => {
    const [item] = await readAll(['{"contexts":["a","bb"],"continuation":"ccc","gold":0}']);
    expect(item?.candidates).toEqual([
      { context: 'a', continuation: 'ccc', characterCount: 1 },
      { context: 'bb', continuation: 'ccc', characterCount: 2 },
    ]);
  });

  it('reads a last-word item', async () => {
    const [item] = await readAll(['{"context":"to be or not to","target":"be"}']);
    expect(item).toEqual({
      kind: 'last-word',
      place: 'line 1',
      gold: 0,
      candidates: [{ context: 'to be or not to', continuation: 'be', characterCount: 2 }],
    });
  });

  it.each([
    ['no JSON', '{', /t.jsonl line 2 is not JSON/],
    ['no object', '[1]', /t.jsonl line 2 is a list/],
    ['no known fields', '{"question":"q"}', /t.jsonl line 2 has question; expected query, choices, gold or contexts/],
    ['no query', '{"choices":["a","b"],"gold":0}', /line 2: "query" is missing/],
    [
      'one choice',
      '{"query":"q","choices":["a"],"gold":0}',
      /line 2: "choices" is \["a"\], expected a list of at least/,
    ],
    ['no choices', '{"query":"q","choices":[],"gold":0}', /line 2: "choices" is \[\]/],
    ['an empty choice', '{"query":"q","choices":["a",""],"gold":0}', /line 2: "choices" has "" at position 1/],
    ['a choice that is no text', '{"query":"q","choices":["a",3],"gold":0}', /line 2: "choices" has 3 at position 1/],
    ['an empty continuation', '{"contexts":["a","b"],"continuation":" ","gold":0}', /line 2: "continuation" is empty/],
    ['no gold', '{"query":"q","choices":["a","b"]}', /line 2 has no gold/],
    [
      'gold too large',
      '{"query":"q","choices":["a","b"],"gold":2}',
      /line 2: gold is 2, expected an integer from 0 to 1/,
    ],
    ['gold below 0', '{"query":"q","choices":["a","b"],"gold":-1}', /line 2: gold is -1/],
    ['gold as text', '{"query":"q","choices":["a","b"],"gold":"1"}', /line 2: gold is "1"/],
    ['no context', '{"target":"b"}', /line 2: "context" is missing/],
    ['an empty context of a last word', '{"target":"b","context":" "}', /line 2: "context" is empty/],
    ['an empty target', '{"context":"a","target":""}', /line 2: "target" is empty/],
    [
      'another kind',
      '{"context":"a","target":"b"}',
      /line 2 is a last-word item, the lines before are multiple-choice/,
    ],
  ])('refuses %s', async (_, line, message) => {
    const lines = ['{"query":"q","choices":["a","b"],"gold":1}', line];
    await expect(readAll(lines, 't.jsonl')).rejects.toThrow(OptionError);
    await expect(readAll(lines, 't.jsonl')).rejects.toThrow(message);
  });

  it('refuses a file without items', async () => {
    await expect(readAll(['', ' '], 't.jsonl')).rejects.toThrow(/t.jsonl has no items/);
  });
});
