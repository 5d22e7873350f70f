import { OptionError } from '../../src/errors.js';
import { collectContexts } from '../../src/evaluation/collect-contexts.js';
import { testEngine } from '../support/engine.js';
import { branches, mixture, plainRouter } from '../support/mixtures.js';
import { buildDecoder } from '../support/small-decoder.js';
import { type Loaded, loadTinyLlama } from '../support/tiny-llama.js';
import { readTinyLlamaFile, tinyLlamaTokenizer } from './tiny-llama.js';

let loaded: Loaded;
beforeAll(async () => {
  loaded = await loadTinyLlama();
});

const windowsOf = (name: string) => {
  const tokens = tinyLlamaTokenizer.encode(readTinyLlamaFile(`text/${name}.txt`).slice(0, 4000));
  return Array.from({ length: 4 }, (_, window) => tokens.slice(window * 96, (window + 1) * 96));
};

it('separates kinds of text', async () => {
  const windows = [...windowsOf('arithmetic'), ...windowsOf('drama')];
  const { block, contextCount, contextOfToken, typicalTokens } = await collectContexts({
    ...loaded,
    engine: testEngine,
    windows,
    contextCount: 6,
  });
  expect(block).toBe(3);
  expect(contextOfToken).toHaveLength(8 * 96);
  expect(typicalTokens).toHaveLength(contextCount);
  // Tokens in contexts that mostly contain tokens of the same text.
  let inMajority = 0;
  for (let context = 0; context < contextCount; context++) {
    const own = [...contextOfToken.keys()].filter((token) => contextOfToken[token] === context);
    const first = own.filter((token) => token < 4 * 96).length;
    inMajority += Math.max(first, own.length - first);
    for (const token of typicalTokens[context]!) expect(contextOfToken[token]).toBe(context);
  }
  expect(inMajority / contextOfToken.length).toBeGreaterThan(0.85);
});

it('reads the requested block, with the same result each time', async () => {
  const request = { ...loaded, engine: testEngine, windows: windowsOf('prose').slice(0, 2), contextCount: 3, block: 0 };
  const [first, again] = [await collectContexts(request), await collectContexts(request)];
  expect(first.block).toBe(0);
  expect(again).toEqual(first);
  await expect(collectContexts({ ...request, block: 6 })).rejects.toThrow(OptionError);
  await expect(collectContexts({ ...request, block: 6 })).rejects.toThrow(/block is 6.*0\.\.5/);
});

it.each([
  ['in one operator', mixture(plainRouter)],
  ['in separate nodes', branches()],
])('reads the input of experts if a block has no other FFN: %s', async (_, ffn) => {
  const [first, second] = [3, 30];
  // Only two different tokens.
  const windows = [0, 1].map((window) =>
    Int32Array.from({ length: 20 }, (_, at) => ((at + window) % 2 === 0 ? first : second)),
  );
  const { contextOfToken } = await collectContexts({
    ...(await loadTinyLlama(buildDecoder({ ffn }))),
    engine: testEngine,
    windows,
    contextCount: 2,
    block: 0,
  });
  const tokens = windows.flatMap((window) => [...window]);
  const isFirst = tokens.map((token) => token === first);
  const inOne = [...contextOfToken].map((context) => context === contextOfToken[0]);
  expect(inOne).toEqual(isFirst);
});
