/** Brings an entire method: scores and a repair of its own that share what was computed once. */
import { type CompensationAdapter, prune } from 'fang-prune';

/** Scores a unit by the output it makes up on average, and puts the mean output of removed units into a bias. */
const meanOutput: CompensationAdapter = {
  needs: 'moments',
  prepare({ weight, statistics, unitOfChannel, unitCount }) {
    const [outCount = 0, channelCount = 0] = weight.shape;
    const meanOutputs = Float64Array.from({ length: outCount * channelCount }, (_, at) => {
      const channel = at % channelCount;
      return weight.get(Math.floor(at / channelCount), channel) * statistics.mean[channel]!;
    });
    const scores = new Float64Array(unitCount);
    meanOutputs.forEach((value, at) => {
      scores[unitOfChannel[at % channelCount]!]! += value * value;
    });
    return {
      scores,
      compensate(keep) {
        const kept = new Set(keep);
        const bias = new Float64Array(outCount);
        meanOutputs.forEach((value, at) => {
          if (!kept.has(at % channelCount)) bias[Math.floor(at / channelCount)]! += value;
        });
        return { bias };
      },
    };
  },
};

const report = await prune({
  model: 'examples/models/tiny-llama',
  out: process.argv[2] ?? 'demo-output/example-05',
  force: true,
  sparsity: 0.2,
  modules: 'ffn',
  method: meanOutput,
  calibration: { windowCount: 8, windowLength: 128 },
});

console.log(`${report.parameters.before} -> ${report.parameters.after} parameters`);
