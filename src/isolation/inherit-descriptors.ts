import type { StdioOptions } from 'node:child_process';

/** How a shell names what `<(...)` reads. */
const DESCRIPTOR = /^\/(?:dev|proc\/self)\/fd\/(\d+)$/;

/** Descriptors that a process inherits, so that it finds the files that a request names by them: it gets no others of its parent. */
export function inheritDescriptors(request: object): StdioOptions {
  const stdio: ('inherit' | 'ignore' | 'ipc' | number)[] = ['inherit', 'inherit', 'inherit'];
  for (const text of textsIn(request)) {
    const descriptor = Number(DESCRIPTOR.exec(text)?.[1] ?? 0);
    if (descriptor < 3) continue;
    while (stdio.length <= descriptor) stdio.push('ignore');
    stdio[descriptor] = descriptor;
  }
  return [...stdio, 'ipc'];
}

/** Texts in plain objects and lists. */
function* textsIn(value: unknown): Generator<string> {
  if (typeof value === 'string') yield value;
  if (typeof value !== 'object' || value === null || ArrayBuffer.isView(value)) return;
  for (const part of Object.values(value)) yield* textsIn(part);
}
