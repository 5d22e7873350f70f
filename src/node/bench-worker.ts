/** Worker process for one model, so that its peak memory can be measured. Handles one message at a time. */
import type { LanguageModel } from '../evaluation/language-model.js';
import { createLanguageModel } from '../evaluation/session-language-model.js';
import { timeDecode, timePrefill } from '../evaluation/time-tokens.js';
import { openSession } from '../pipeline/open-language-model.js';
import { toSentError } from '../pipeline/revive-error.js';
import { cacheSizes, openModelFolder } from '../storage/model-folder.js';
import type { WorkerCall, WorkerCalls, WorkerRequest, WorkerResponse } from './bench-protocol.js';
import { peakMemoryBytes } from './memory.js';
import { createNodeEngine } from './node-engine.js';
import { nodePlatform } from './node-platform.js';
import { probeWidth } from './probe-width.js';

let opened: LanguageModel | undefined;

type Handlers = {
  readonly [C in WorkerCall]: (request: WorkerCalls[C]['request']) => Promise<WorkerCalls[C]['answer']>;
};

const handlers: Handlers = {
  async open({ model, embeddings, offline, executionProvider }) {
    const start = performance.now();
    const folder = await openModelFolder(nodePlatform, model, { embeddings, offline });
    const engine = await createNodeEngine({ executionProvider, threads: 0 });
    // Opened unchanged, as by users.
    const session = await openSession(engine, folder);
    opened = await createLanguageModel({ engine, session, ...cacheSizes(folder) });
    const loadMs = performance.now() - start;
    await folder.close();
    return { loadMs, hasCache: opened.hasCache };
  },
  async prefill({ promptLength }) {
    const { ms } = await timePrefill(opened!, promptLength);
    return { ms };
  },
  decode: async (tokens) => ({ ms: await timeDecode(opened!, tokens) }),
  probe: probeWidth,
  memory: async () => ({ bytes: peakMemoryBytes() }),
};

process.on('message', ({ call, ...request }: WorkerRequest) => {
  const handle = handlers[call] as (request: object) => Promise<WorkerCalls[WorkerCall]['answer']>;
  const reply = (answer: WorkerResponse) => process.send?.(answer);
  handle(request).then(
    (answer) => reply({ answer }),
    (error) => reply({ error: toSentError(error) }),
  );
});
// The parent has ended.
process.on('disconnect', () => process.exit());
