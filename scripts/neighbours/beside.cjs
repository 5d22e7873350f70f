const { prune } = require('fang-prune');

async function main() {
  const { environment, parameters } = await prune({
    model: 'examples/models/tiny-llama',
    out: 'smaller',
    force: true,
    sparsity: 0.3,
    method: 'flap',
    calibration: { windowCount: 4, windowLength: 64 },
  });
  const { env, pipeline } = require('@huggingface/transformers');
  env.allowRemoteModels = false;
  env.localModelPath = `${process.cwd()}/`;
  const write = await pipeline('text-generation', 'smaller', { dtype: 'fp32' });
  const [{ generated_text: text }] = await write('The city of', { max_new_tokens: 3, do_sample: false });
  const loaded = Object.keys(require.cache).filter((file) => file.endsWith('_binding.node'));
  console.log(JSON.stringify({ environment, parameters, text, loaded }));
}

main();
