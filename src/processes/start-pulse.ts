import type { Engine, Session } from '../runtime/engine.js';

/** How often a process says that it lives. */
const BEAT_MS = 1000;

/**
 * Has a process say that it lives: every second in which it waits for no call into the engine, or in which one has ended. A
 * graph that never ends leaves the event loop free, and JavaScript that never ends does not; both are silent.
 * @returns what makes an engine of one whose calls count.
 */
export function startPulse(beat: () => void): (engine: Engine) => Engine {
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
