import { prune } from 'fang-prune';

const { environment, parameters } = await prune({
  model: 'examples/models/tiny-llama',
  out: 'smaller',
  force: true,
  sparsity: 0.3,
  method: 'flap',
  calibration: { windowCount: 4, windowLength: 64 },
});
console.log(JSON.stringify({ environment, parameters, loaded: [] }));
