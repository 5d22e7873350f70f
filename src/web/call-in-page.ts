import type { DirectoryHandle } from '../platform/web/handle-folder.js';
import { createWebPlatform } from '../platform/web/web-platform.js';
import type { WebRuntime } from '../platform/web/web-runtime.js';
import { type AnswerOf, callHere, type ModelCall, type RequestOf } from '../remote/model-calls.js';
import { mountPlaces } from './mount-places.js';
import type { InPage } from './page-request.js';

/** Makes a call in this page or worker, on the folders and files that the request holds. */
export async function callInPage<Call extends ModelCall>(
  call: Call,
  given: InPage<RequestOf<Call>>,
  runtime?: WebRuntime,
): Promise<AnswerOf<Call>> {
  const { request, folders } = mountPlaces(Object(given));
  return callHere(createWebPlatform({ folders, home: await findHome(), runtime }), call, request as RequestOf<Call>);
}

/** The origin's private file system; undefined where pages have none: without https, or in a private window. */
function findHome(): Promise<DirectoryHandle | undefined> {
  return Promise.resolve(globalThis.navigator?.storage?.getDirectory() as Promise<DirectoryHandle> | undefined).catch(
    () => undefined,
  );
}
