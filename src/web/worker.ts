/** A worker that makes the library's calls for a page, each through a port of its own. */
import type { WebRuntime } from '../platform/web/web-runtime.js';
import { answerOrder, type Order } from '../remote/messages.js';
import type { ModelCall, RequestOf } from '../remote/model-calls.js';
import { callInPage } from './call-in-page.js';
import { buffersOf, mapsIn, watchMaps } from './changed-maps.js';
import type { InPage } from './page-request.js';

/** What a page says first. */
let runtime: WebRuntime = {};

const make = (call: ModelCall, request: RequestOf<ModelCall>) =>
  callInPage(call, request as InPage<typeof request>, runtime);

globalThis.addEventListener('message', ({ data, ports }: MessageEvent<Order | { readonly runtime: WebRuntime }>) => {
  if ('runtime' in data) runtime = data.runtime;
  else void answer(data, ports[0]!);
});

async function answer(order: Order, port: MessagePort): Promise<void> {
  const abortion = new AbortController();
  port.onmessage = () => abortion.abort();
  const changes = watchMaps(mapsIn(order.request));
  const tell = (message: object) => port.postMessage(message);
  const outcome = await answerOrder(order, { make, tell, signal: abortion.signal });
  const maps = changes();
  port.postMessage({ ...outcome, maps }, buffersOf(maps));
}
