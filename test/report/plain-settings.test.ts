import { resolveOptions } from '../../src/options.js';
import { plainSettings } from '../../src/report/plain-settings.js';

it('holds every option in a form that JSON keeps', () => {
  const settings = plainSettings(
    resolveOptions({
      sparsity: 0.3,
      method: 'o-fang',
      modules: 'ffn',
      grouping: { clusterBalance: Number.POSITIVE_INFINITY },
      skipBlocks: [0, 3],
      blockSparsity: { 1: 0.2, 2: { ffn: 0.1 } },
      signal: new AbortController().signal,
      onProgress: () => undefined,
    }),
  );
  expect(JSON.parse(JSON.stringify(settings))).toEqual(settings);
  expect(settings).toMatchObject({
    method: 'o-fang',
    sparsity: 0.3,
    modules: ['ffn'],
    allocation: 'adaptive',
    grouping: { contextCount: 7, clusterBalance: 'Infinity' },
    skipBlocks: [0, 3],
    blockSparsity: { 1: 0.2, 2: { ffn: 0.1 } },
    seed: 0,
  });
  for (const name of ['adapter', 'signal', 'onProgress', 'methodName']) expect(settings).not.toHaveProperty(name);
});
