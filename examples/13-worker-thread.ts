// Pruning in a worker thread: the main thread stays free, hears of progress, and may stop it.
import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
// Loaded here first: only a process's main thread can switch ONNX Runtime's telemetry off.
import 'fang-prune';

const folder = process.argv[2] ?? (await mkdtemp(join(tmpdir(), 'fang-prune-')));

// A file of its own in a real program: `new Worker(new URL('./prune-worker.js', import.meta.url))`.
const code = `
  const { parentPort, workerData } = require('node:worker_threads');
  import('fang-prune').then(async ({ prune }) => {
    const onProgress = (progress) => parentPort.postMessage({ progress });
    try {
      parentPort.postMessage({ report: await prune({ ...workerData, onProgress }) });
    } catch (error) {
      parentPort.postMessage({ error: error.message });
    }
  });
`;
const worker = new Worker(code, {
  eval: true,
  workerData: {
    model: 'examples/models/tiny-llama',
    out: join(folder, 'smaller'),
    sparsity: 0.3,
    method: 'flap',
    calibration: { windowCount: 4, windowLength: 128 },
  },
});

let [ticks, steps] = [0, 0];
const ticking = setInterval(() => (ticks += 1), 5);
worker.on('message', ({ progress, report, error }) => {
  if (progress !== undefined) {
    steps += 1;
    return;
  }
  clearInterval(ticking);
  console.log(error ?? `${report.parameters.before} -> ${report.parameters.after} parameters`);
  console.log(`${steps} steps heard of; the main thread was ${ticks > 10 ? 'free' : 'busy'} meanwhile`);
  void worker.terminate();
});
