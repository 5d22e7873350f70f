import { join } from 'node:path';
import { describe as describeModel, prune } from '../../src/node.js';
import { useTemporaryFolder } from '../support/temporary-folder.js';

const folder = useTemporaryFolder();

it('detects an attention with one remaining head after a Reshape and an Expand', async () => {
  const common = { method: 'magnitude', modules: 'attention', sparsity: 0.5, certify: false } as const;
  const [once, twice] = [join(folder(), 'once'), join(folder(), 'twice')];
  await prune({ ...common, model: 'test/fixtures/exporters/llama-dynamo215op23-fp32', out: once });
  await prune({ ...common, model: once, out: twice, headUnit: 'query' });

  const { blocks } = await describeModel({ model: twice });

  const found = blocks.flatMap(({ modules }) => modules).filter(({ kind }) => kind === 'attention');
  expect(found.map(({ heads }) => heads)).toEqual([1, 1]);
});
