import type * as Library from '@huggingface/hub';
import { HubError } from '../errors.js';
import { sum } from '../linalg/sum.js';
import type { JobControl } from '../progress.js';
import type { HubStore } from '../runtime/hub-store.js';
import { createHubFetch } from './hub-fetch.js';

export interface Upload extends JobControl {
  readonly repo: string;
  readonly branch: string;
  readonly store: Pick<HubStore, 'settings' | 'loadClient'>;
  readonly files: readonly FileToSend[];
  /** Title of the commit. */
  readonly title: string;
}

export interface FileToSend {
  readonly path: string;
  readonly byteLength: number;
  /** A `Blob`, or the `URL` of a file. */
  readonly content: object;
}

/** Uploads files to a repository in one commit. @returns the commit. @throws HubError */
export async function uploadFiles({ repo, branch, store, files, title, onProgress, signal }: Upload): Promise<string> {
  const { settings } = store;
  const { commitIter } = (await store.loadClient()) as typeof Library;
  const total = files.reduce((sum, { byteLength }) => sum + byteLength, 0);
  const sent = new Map<string, number>();
  const sizes = new Map(files.map(({ path, byteLength }) => [path, byteLength]));
  const report = (detail: string) =>
    onProgress?.({ stage: 'upload', done: Math.round(sum(sent.values())), total, detail });
  report(repo);
  const steps = commitIter({
    repo,
    branch,
    title,
    hubUrl: settings.endpoint,
    fetch: createHubFetch(settings, { about: repo, signal, onWait: report }),
    operations: files.map(({ path, content }) => ({
      operation: 'addOrUpdate' as const,
      path,
      content: content as Blob | URL,
    })),
    ...(signal && { abortSignal: signal }),
  });
  for (;;) {
    // The library stops its requests with a reason of its own.
    const step = await steps.next().finally(() => signal?.throwIfAborted());
    if (step.done) {
      report(repo);
      if (step.value === undefined) throw new HubError(`${settings.endpoint} created no commit of ${repo}. Try again.`);
      return step.value.commit.oid;
    }
    if (step.value.event !== 'fileProgress') continue;
    const { path, progress, state } = step.value;
    if (state === 'uploading') sent.set(path, progress * (sizes.get(path) ?? 0));
    report(`${path}, ${state}`);
  }
}
