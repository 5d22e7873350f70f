/** A process of its own for one call of the library. Told by messages what to do and when to stop. */
import { nodePlatform } from '../platform/node/node-platform.js';
import type { Platform } from '../platform/platform.js';
import { callHere } from './call-model.js';
import { toSentError } from './revive-error.js';
import type { FromWorker, Order, ToWorker } from './run-isolated.js';
import { startPulse } from './start-pulse.js';

const abortion = new AbortController();
// Whoever asked may be gone, which `disconnect` tells.
const tell = (message: FromWorker) => process.send?.(message, () => undefined);
const countCalls = startPulse(() => tell({ beat: true }));
const platform: Platform = {
  ...nodePlatform,
  createEngine: async (choice) => countCalls(await nodePlatform.createEngine(choice)),
};

process.on('message', (message: ToWorker) => {
  if ('abort' in message) abortion.abort();
  else void run(message);
});
// Whoever asked is gone.
process.on('disconnect', () => process.exit());
// A terminal sends signals to all its processes; whoever asked says when to stop.
for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(name, () => {});

async function run({ call, request }: Order): Promise<void> {
  const control = { onProgress: (progress: object) => tell({ progress } as FromWorker), signal: abortion.signal };
  await callHere(platform, call, { ...request, ...control }).then(
    (answer) => tell({ answer }),
    (error) => tell({ error: toSentError(error) }),
  );
}
