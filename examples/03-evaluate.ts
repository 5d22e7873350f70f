/** Compares a pruned model with the dense one: perplexity on a text, and a sample of its writing. */
import { generateText, perplexity, prune } from 'fang-prune';

const dense = 'examples/models/tiny-llama';
const pruned = process.argv[2] ?? 'demo-output/example-03';

await prune({
  model: dense,
  out: pruned,
  force: true,
  sparsity: 0.2,
  calibration: { windowCount: 8, windowLength: 128 },
});

for (const model of [dense, pruned]) {
  const result = await perplexity({
    model,
    file: 'examples/models/tiny-llama/text/prose.txt',
    windowLength: 256,
    windowCount: 4,
  });
  const sample = await generateText({ model, prompt: 'The city of', maxNewTokens: 20 });
  console.log(`${model}: perplexity ${result.perplexity.toFixed(2)} over ${result.tokenCount} tokens`);
  console.log(`The city of${sample.text}`);
}
