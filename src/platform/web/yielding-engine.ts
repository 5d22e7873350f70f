import type { JobControl } from '../../progress.js';
import type { Engine, Session } from '../../runtime/engine.js';

/**
 * Lets a page live: before each call into the engine all that waits for its thread has its turn (clicks, frames, messages), and an
 * aborted run ends there.
 */
export function yieldingEngine({ loadFile: _, ...engine }: Engine, { signal }: JobControl): Engine {
  const turn = async () => {
    await nextTask();
    signal?.throwIfAborted();
  };
  const yieldingSession = (session: Session): Session => ({
    ...session,
    async run(feeds, fetches) {
      await turn();
      return session.run(feeds, fetches);
    },
  });
  return {
    ...engine,
    async load(model, options) {
      await turn();
      return yieldingSession(await engine.load(model, options));
    },
  };
}

/** Promises alone let nothing else in, and timers wait 4 ms each. */
function nextTask(): Promise<void> {
  const { port1, port2 } = new MessageChannel();
  return new Promise((resolve) => {
    port1.onmessage = () => {
      port1.close();
      resolve();
    };
    port2.postMessage(undefined);
  });
}
