import { toSentError } from '../pipeline/revive-error.js';
import type { Engine, Session } from '../runtime/engine.js';
import type { EngineMethods, EngineRequest, EngineResponse } from './engine-worker.js';
import { startRuntime } from './web-platform.js';

type EngineServer = {
  readonly [Name in keyof EngineMethods]: (
    ...params: Parameters<EngineMethods[Name]>
  ) => Promise<ReturnType<EngineMethods[Name]>>;
};

/** Serves requests to an engine. @param send sends a response, and transfers buffers */
export function serveEngine(
  send: (answer: EngineResponse, transfer?: ArrayBuffer[]) => void,
): (question: EngineRequest) => Promise<void> {
  const server = createServer();
  return async ({ id, method, params }) => {
    try {
      const answer = await (server[method] as (...params: unknown[]) => Promise<unknown>)(...params);
      const buffers = method === 'run' ? Object.values(answer as object).map(({ data }) => data.buffer) : [];
      send({ id, answer }, [...new Set<ArrayBuffer>(buffers)]);
    } catch (error) {
      send({ id, error: toSentError(error) });
    }
  };
}

function createServer(): EngineServer {
  const sessions = new Map<number, Session>();
  let engine: Engine | undefined;
  let count = 0;
  return {
    async start(runtime, executionProviders) {
      engine = await startRuntime(runtime, executionProviders);
      const { load: _, loadFile: __, ...described } = engine;
      return described;
    },
    async load(model, options) {
      const session = await engine!.load(model, options);
      count += 1;
      sessions.set(count, session);
      return { session: count, inputs: session.inputs, outputs: session.outputs };
    },
    run: (session, feeds, fetches) => sessions.get(session)!.run(feeds, fetches),
    async release(session) {
      await sessions.get(session)?.release();
      sessions.delete(session);
    },
  };
}
