import { createNodeEngine } from '../../src/platform/node/node-engine.js';

/** The engine that tests run graphs on. */
export const testEngine = await createNodeEngine();
