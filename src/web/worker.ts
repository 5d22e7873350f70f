/** A worker that makes one of the library's calls for a page, or runs graphs for one that is made on the page's thread. */

import type { CallName, RequestOf } from '../pipeline/call-table.js';
import { answerOrder } from '../remote/messages.js';
import type { FromWorker, WorkerOrder } from './call-in-worker.js';
import { callOnThread } from './call-on-thread.js';
import { buffersOf, mapsIn, watchMaps } from './changed-maps.js';
import type { EngineAnswer, EngineQuestion } from './engine-worker.js';
import type { InPage } from './page-request.js';
import { serveEngine } from './serve-engine.js';

const send = (message: FromWorker | EngineAnswer, transfer: ArrayBuffer[] = []) =>
  globalThis.postMessage(message, { transfer });
const answerQuestion = serveEngine(send);

send({ beat: true });
globalThis.addEventListener('message', ({ data }: MessageEvent<WorkerOrder | EngineQuestion>) => {
  void ('ask' in data ? answerQuestion(data) : answer(data));
});

async function answer({ call, request, ...options }: WorkerOrder): Promise<void> {
  const changes = watchMaps(mapsIn(request));
  const make = (call: CallName, request: RequestOf<CallName>) =>
    callOnThread(call, request as InPage<typeof request>, options);
  const outcome = await answerOrder({ call, request }, { make, send });
  const maps = changes();
  send({ ...outcome, maps }, buffersOf(maps));
}
