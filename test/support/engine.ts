import { createNodeEngine } from '../../src/node/node-engine.js';

/** The engine that tests run graphs on. One thread: to start eight for each session takes a tenth of the time of small models. */
export const testEngine = await createNodeEngine({ threads: 1 });
