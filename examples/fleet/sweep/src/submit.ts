// Submits a sweep, waits for its table and prints it: npm run submit -- sweep.json OUT
// The same sweep again takes what it has made from OUT.
import { FlowProducer, QueueEvents } from 'bullmq';
import { createFlow } from './flow.js';
import { connection, QUEUE, readSweep } from './sweep.js';

const [file, out] = process.argv.slice(2);
if (file === undefined || out === undefined) throw new Error('usage: npm run submit -- sweep.json OUT');

const events = new QueueEvents(QUEUE, { connection });
const producer = new FlowProducer({ connection });
try {
  await events.waitUntilReady();
  const { job } = await producer.add(createFlow(await readSweep(file), out));
  console.log(await job.waitUntilFinished(events));
} finally {
  await Promise.all([events.close(), producer.close()]);
}
