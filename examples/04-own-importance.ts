/** Brings an importance function of your own; one of the library's repairs makes up for what goes. */
import { prune } from 'fang-prune';
import { createImportanceAdapter } from 'fang-prune/core';

// A channel that moves a lot carries information; one that stands still is nearly a bias.
const keepWhatMoves = createImportanceAdapter(
  ({ statistics, unitOfChannel, unitCount }) => {
    const scores = new Float64Array(unitCount);
    unitOfChannel.forEach((unit, channel) => {
      scores[unit]! += Math.sqrt(statistics.variance[channel]!);
    });
    return scores;
  },
  { needs: 'moments', repair: 'bias' },
);

const report = await prune({
  model: 'examples/models/tiny-llama',
  sparsity: 0.3,
  method: keepWhatMoves,
  calibration: { windowCount: 8, windowLength: 128 },
  dryRun: true,
});

console.log(`would remove ${(report.sparsity.achieved * 100).toFixed(1)} % of the prunable parameters`);
