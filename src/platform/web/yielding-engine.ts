import type { JobControl } from '../../progress.js';
import type { Engine, Session } from '../../runtime/engine.js';
import { nextTask } from './next-task.js';

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
