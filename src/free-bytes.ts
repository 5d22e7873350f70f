let closedPort: MessagePort | undefined;

/**
 * Frees the memory of large arrays without other references, which are empty afterwards; those with shared memory are not changed. Left
 * to the garbage collector, every 30 MB of them would have it go through the entire heap.
 */
export function freeBytes(...arrays: readonly ArrayBufferView[]): void {
  for (const { buffer, byteLength } of arrays)
    if (byteLength > 0 && buffer.byteLength === byteLength) freeBuffer(buffer as ArrayBuffer);
}

/** A port takes over what is transferred to it even when it is closed, and then drops it. `ArrayBuffer.transfer` is newer than Node.js 20. */
export function freeBuffer(buffer: ArrayBuffer): void {
  if (closedPort === undefined) {
    closedPort = new MessageChannel().port1;
    closedPort.close();
  }
  closedPort.postMessage(undefined, [buffer]);
}
