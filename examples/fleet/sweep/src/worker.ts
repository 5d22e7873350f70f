// Takes one job at a time from the queue. Start as many as there are machines: REDIS_URL=redis://host:6379 npm run worker
import { Worker } from 'bullmq';
import { JOBS } from './jobs.js';
import { connection, QUEUE } from './sweep.js';

const stopping = new AbortController();
/** Progress goes to Redis at most so often. */
const PROGRESS_MS = 1000;

const worker = new Worker(
  QUEUE,
  async (job) => {
    let last = 0;
    const onProgress = ({ stage, done, total }: { stage: string; done: number; total: number }) => {
      if (Date.now() - last < PROGRESS_MS) return;
      last = Date.now();
      job.updateProgress({ stage, done, total }).catch(() => {});
    };
    return JOBS[job.name]!(job, { onProgress, signal: stopping.signal });
  },
  // A worker that is gone loses its job after half a minute, and another one resumes it.
  { connection, concurrency: 1, lockDuration: 30_000, maxStalledCount: 5 },
);
worker.on('active', ({ name, data }) => console.log(`begins ${name} ${data.method ?? ''} ${data.folder ?? data.out}`));
worker.on('completed', ({ name, data }) => console.log(`done ${name} ${data.method ?? ''} ${data.folder ?? data.out}`));
worker.on('failed', (job, error) => console.error(`failed ${job?.name} ${job?.attemptsMade}: ${error.message}`));
worker.on('error', (error) => console.error(error.message));

for (const name of ['SIGINT', 'SIGTERM'] as const)
  process.once(name, async () => {
    stopping.abort();
    await worker.close();
  });
