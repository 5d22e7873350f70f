import { callOn } from '../pipeline/call-on.js';
import type { AnswerOf, CallName, RequestOf } from '../pipeline/call-table.js';
import type { DirectoryHandle } from './handle-folder.js';
import { holdingMap } from './holding-map.js';
import { mountPlaces } from './mount-places.js';
import type { InPage } from './page-request.js';
import { createWebPlatform, type WebPlatformOptions } from './web-platform.js';

/** Makes a call on the caller's thread, with the folders and files in the request. */
export async function callOnThread<Call extends CallName>(
  call: Call,
  given: InPage<RequestOf<Call>>,
  options: Pick<WebPlatformOptions, 'runtime' | 'hub' | 'startEngine' | 'run'> = {},
): Promise<AnswerOf<Call>> {
  const { request, folders } = mountPlaces(Object(given));
  return holdingMap(Object(given), async (): Promise<AnswerOf<Call>> => {
    const platform = createWebPlatform({ ...options, folders, home: await findHome() });
    return callOn(platform, call, request as RequestOf<Call>);
  });
}

/** The origin's private file system; undefined if not available: without https, or in a private window. */
export function findHome(): Promise<DirectoryHandle | undefined> {
  return Promise.resolve(globalThis.navigator?.storage?.getDirectory() as Promise<DirectoryHandle> | undefined).catch(
    () => undefined,
  );
}
