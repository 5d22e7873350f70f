import type { Engine, Session } from '../runtime/engine.js';

/** Interval of heartbeats. */
const BEAT_MS = 1000;

/**
 * Sends heartbeats: every second without a pending engine call, or in which one has ended. Neither an endless graph
 * (which leaves the event loop free) nor endless JavaScript sends any.
 * @returns a wrapper of engines that counts their calls
 */
export function startHeartbeat(beat: () => void): (engine: Engine) => Engine {
  let underWay = 0;
  let hasEnded = false;
  const count = async <T>(action: Promise<T>): Promise<T> => {
    underWay++;
    return action.finally(() => {
      underWay--;
      hasEnded = true;
    });
  };
  setInterval(() => {
    if (underWay === 0 || hasEnded) beat();
    hasEnded = false;
  }, BEAT_MS).unref();
  const countRuns = (session: Session): Session => ({
    ...session,
    run: (feeds, fetches) => count(session.run(feeds, fetches)),
  });
  return ({ loadFile, ...engine }) => ({
    ...engine,
    load: async (model, options) => countRuns(await count(engine.load(model, options))),
    ...(loadFile && { loadFile: async (path, options) => countRuns(await count(loadFile(path, options))) }),
  });
}
