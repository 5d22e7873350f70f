/** A worker that makes a call for a page, or runs the graphs of a call on the page's thread. */

import { answerCall } from '../pipeline/call-messages.js';
import type { CallName, RequestOf } from '../pipeline/call-table.js';
import type { FromWorker, WorkerStart } from './call-in-worker.js';
import { callOnThread } from './call-on-thread.js';
import { buffersOf, mapsIn, watchMaps } from './changed-maps.js';
import type { EngineRequest, EngineResponse } from './engine-worker.js';
import type { InPage } from './page-request.js';
import { serveEngine } from './serve-engine.js';

const send = (message: FromWorker | EngineResponse, transfer: ArrayBuffer[] = []) =>
  globalThis.postMessage(message, { transfer });
const respond = serveEngine(send);

send({ beat: true });
globalThis.addEventListener('message', ({ data }: MessageEvent<WorkerStart | EngineRequest>) => {
  void ('method' in data ? respond(data) : answer(data));
});

async function answer({ call, request, ...options }: WorkerStart): Promise<void> {
  const changes = watchMaps(mapsIn(request));
  const make = (call: CallName, request: RequestOf<CallName>) =>
    callOnThread(call, request as InPage<typeof request>, options);
  const outcome = await answerCall({ call, request }, { make, send });
  const maps = changes();
  send({ ...outcome, maps }, buffersOf(maps));
}
