import * as ort from 'onnxruntime-node';
import { createOrtEngine } from '../../src/runtime/ort-engine.js';

/** The engine that tests run graphs on. */
export const testEngine = createOrtEngine(ort);
