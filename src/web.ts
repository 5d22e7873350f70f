/**
 * The browser entry: all stages, and the ports they work through. Bring a model as `SourceFolder`, ONNX Runtime Web through
 * `createOrtEngine`, and write into `createMemoryFolder` or a `SinkFolder` of your own.
 */
export * from './index.js';
