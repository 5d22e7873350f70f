/** Worker process for one call of the library, controlled by messages. */

import { answerCall, type FromCallee, type RemoteCall, type ToCallee } from '../pipeline/call-messages.js';
import { callOn } from '../pipeline/call-on.js';
import { withMembers } from '../runtime/platform.js';
import { nodePlatform } from './node-platform.js';
import { startHeartbeat } from './start-heartbeat.js';

const controller = new AbortController();
// The parent may have ended, which `disconnect` reports.
const send = (message: FromCallee) => process.send?.(message, () => undefined);
const countCalls = startHeartbeat(() => send({ beat: true }));
const platform = withMembers(nodePlatform, {
  createEngine: async (choice) => countCalls(await nodePlatform.createEngine(choice)),
});

process.on('message', (message: ToCallee) => {
  if ('abort' in message) controller.abort();
  else void run(message);
});
// The parent has ended.
process.on('disconnect', () => process.exit());
// A terminal sends signals to all processes of the group; the parent decides when to stop.
for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(name, () => {});

async function run(given: RemoteCall): Promise<void> {
  const make = callOn.bind(undefined, platform);
  send(await answerCall(given, { make, send, signal: controller.signal }));
}
