/** Prunes a model folder: 30 % of attention and FFN go, what is left is repaired, a new folder is written. */
import { prune } from 'fang-prune';

const out = process.argv[2] ?? 'demo-output/example-01';

const report = await prune({
  model: 'examples/models/tiny-llama',
  out,
  force: true,
  sparsity: 0.3,
  // Fewer and shorter than the defaults: a small model is measured quickly.
  calibration: { windowCount: 8, windowLength: 128 },
  onProgress: ({ stage, done, total }) => process.stderr.write(`\r${stage} ${done}/${total}   `),
});

const { before, after } = report.parameters;
console.log(`\n${before} -> ${after} parameters, written to ${report.out}`);
for (const { block, kind, unitsBefore, unitsAfter } of report.modules) {
  console.log(`block ${block} ${kind}: ${unitsBefore} -> ${unitsAfter}`);
}
