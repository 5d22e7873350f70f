/** Looks at a model before pruning it: what is prunable, and why the rest is not. */
import { describe } from 'fang-prune';

const description = await describe({ model: 'examples/models/tiny-llama' });

const { total, prunable } = description.parameters;
console.log(`${prunable} of ${total} parameters can be pruned`);
for (const { index, modules } of description.blocks) {
  console.log(`block ${index}: ${modules.map((module) => module.description).join(', ')}`);
}
for (const { block, node, opType, reason } of description.unrecognised) {
  console.log(`block ${block}: ${reason} at ${opType} '${node}'`);
}
