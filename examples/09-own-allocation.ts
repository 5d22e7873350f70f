/** Spreads the sparsity over the blocks by a rule of one's own, from what was measured of each. */
import { prune } from 'fang-prune';

const report = await prune({
  model: 'examples/models/tiny-llama',
  sparsity: 0.3,
  modules: 'ffn',
  method: 'flap',
  // Blocks that change their input more than the typical one lose half as much, the others a little more.
  allocation({ sparsity, modules }) {
    const changes = modules.map(({ blockChange = 0 }) => blockChange);
    const typical = changes.toSorted((a, b) => a - b)[changes.length >> 1]!;
    return changes.map((change) => (change > typical ? 0.5 * sparsity : 1.25 * sparsity));
  },
  calibration: { windowCount: 8, windowLength: 128 },
  dryRun: true,
});

for (const { block, unitsBefore, unitsAfter } of report.modules.filter(({ kind }) => kind === 'ffn'))
  console.log(`block ${block}: ${unitsBefore} -> ${unitsAfter}`);
console.log(`removes ${(report.sparsity.achieved * 100).toFixed(1)} % of the prunable parameters`);
