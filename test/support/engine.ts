import { createNodeEngine } from '../../src/node/node-engine.js';

/** The engine that tests run graphs on. */
export const testEngine = await createNodeEngine();
