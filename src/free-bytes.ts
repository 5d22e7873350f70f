let closedPort: MessagePort | undefined;

/**
 * Detaches the buffers of large arrays that nothing else uses, so that their memory is free at once; views of a part of
 * a buffer are not changed. Otherwise every 30 MB of them trigger a full garbage collection.
 */
export function freeBytes(...arrays: readonly ArrayBufferView[]): void {
  for (const { buffer, byteLength } of arrays)
    if (byteLength > 0 && buffer.byteLength === byteLength) freeBuffer(buffer as ArrayBuffer);
}

/** Detaches a buffer: a closed port drops transferred buffers. `ArrayBuffer.transfer` is newer than Node.js 20. */
export function freeBuffer(buffer: ArrayBuffer): void {
  if (closedPort === undefined) {
    closedPort = new MessageChannel().port1;
    closedPort.close();
  }
  closedPort.postMessage(undefined, [buffer]);
}
