/** Compares a pruned model with the dense one: perplexity on a text, answers to a task, and a sample of its writing. */
import { compareEvaluations, evaluateModels, generateText, prune } from 'fang-prune';

const dense = 'examples/models/tiny-llama';
const pruned = process.argv[2] ?? 'demo-output/example-03';

await prune({
  model: dense,
  out: pruned,
  force: true,
  method: 'flap',
  sparsity: 0.2,
  calibration: { windowCount: 8, windowLength: 128 },
});

const evaluations = await evaluateModels({
  models: [dense, pruned],
  texts: [`${dense}/text/prose.txt`],
  windowLength: 256,
  windowCount: 4,
  reference: dense,
  tasks: [`${dense}/tasks/arithmetic.jsonl`],
  limit: 50,
});

for (const { model, perplexity, divergence, tasks } of evaluations) {
  for (const text of perplexity) {
    console.log(`${model}: perplexity ${text.perplexity.toFixed(2)} over ${text.tokenCount} tokens`);
  }
  const sample = await generateText({ model, prompt: 'The city of', newTokens: 20 });
  console.log(`The city of${sample.text}`);
  for (const { acc, accStderr } of tasks) console.log(`acc ${acc.toFixed(2)} ± ${accStderr.toFixed(2)}`);
  for (const { klDivergence } of divergence) console.log(`${klDivergence.toFixed(3)} nats from the dense model`);
}

for (const { file, summary } of compareEvaluations(evaluations)) console.log(`${file}: ${summary}`);
