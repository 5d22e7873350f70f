// Whatever is imported is loaded before the first line runs: transformers.js comes first here, and last in beside.cjs.
import { createRequire } from 'node:module';
import { env, pipeline } from '@huggingface/transformers';
import { prune } from 'fang-prune';

const { environment, parameters } = await prune({
  model: 'examples/models/tiny-llama',
  out: 'smaller',
  force: true,
  sparsity: 0.3,
  method: 'flap',
  calibration: { windowCount: 4, windowLength: 64 },
});
env.allowRemoteModels = false;
env.localModelPath = `${process.cwd()}/`;
const write = await pipeline('text-generation', 'smaller', { dtype: 'fp32' });
const [{ generated_text: text }] = await write('The city of', { max_new_tokens: 3, do_sample: false });
const loaded = Object.keys(createRequire(import.meta.url).cache).filter((file) => file.endsWith('_binding.node'));
console.log(JSON.stringify({ environment, parameters, text, loaded }));
