/** A worker that was ended lives on until its thread notices, and holds its files until then: 2 s in Chromium. */
const RETRY_LIMIT_MS = 3000;
const PAUSE_MS = 20;

/** Removes or moves what a worker that was just ended may still hold. What it holds for longer is left to the next run. */
export async function retryWhileLocked(action: () => Promise<void>): Promise<void> {
  for (const end = Date.now() + RETRY_LIMIT_MS; Date.now() < end; ) {
    try {
      return await action();
    } catch {
      await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
    }
  }
}
