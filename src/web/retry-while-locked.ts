/** A terminated worker may hold its files for up to 2 s in Chromium. */
const RETRY_LIMIT_MS = 3000;
const PAUSE_MS = 20;

/** Retries an action on files that a terminated worker may still hold; afterwards they are left to the next run. */
export async function retryWhileLocked(action: () => Promise<void>): Promise<void> {
  for (const end = Date.now() + RETRY_LIMIT_MS; Date.now() < end; ) {
    try {
      return await action();
    } catch {
      await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
    }
  }
}
