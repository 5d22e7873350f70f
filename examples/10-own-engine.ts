/** Runs all graphs in an engine of one's own: here ONNX Runtime, with a count of what it is asked for. */
import { createNodeEngine, type Engine, prune } from 'fang-prune';

const inner = await createNodeEngine();
const asked = { sessions: 0, runs: 0 };
const engine: Engine = {
  ...inner,
  name: `counting ${inner.name}`,
  async load(model, options) {
    const session = await inner.load(model, options);
    asked.sessions += 1;
    const run: typeof session.run = (feeds, fetches) => {
      asked.runs += 1;
      return session.run(feeds, fetches);
    };
    return { ...session, run };
  },
};

const report = await prune({
  model: 'examples/models/tiny-llama',
  sparsity: 0.3,
  method: 'flap',
  calibration: { windowCount: 8, windowLength: 128 },
  dryRun: true,
  engine,
});

console.log(`${report.blocks.length} blocks: ${asked.sessions} sessions, ${asked.runs} runs`);
