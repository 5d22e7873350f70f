import hooks from 'node:async_hooks';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { setFlagsFromString } from 'node:v8';
import runFile from 'jest-circus/runner';

const require = createRequire(import.meta.url);
// To optimise the WebAssembly of ONNX Runtime takes three times as long as a small model runs.
setFlagsFromString('--liftoff-only');

/** Which test runs; one for all files, since Node.js sets every storage that was ever used on each promise. */
const context = new hooks.AsyncLocalStorage();

const ADAPTER = join(dirname(require.resolve('jest-circus/runner')), 'jestAdapterInit.js');

/**
 * Runs a test file with Jest's own circus, in Node.js itself rather than in a `vm` context: there, each look-up of a global
 * (`Math`, `Number`) passes an interceptor, which doubled the processor time of the suite, and each file loads every module again.
 */
export default function runTestFile(globalConfig, config, environment, runtime, path, send) {
  Object.assign(runtime, {
    // Its handlers of events are of one file.
    requireInternalModule(name) {
      delete require.cache[ADAPTER];
      const { AsyncLocalStorage } = hooks;
      hooks.AsyncLocalStorage = function shared() {
        return context;
      };
      try {
        return require(name);
      } finally {
        hooks.AsyncLocalStorage = AsyncLocalStorage;
      }
    },
    requireModule: require,
    setGlobalsForRuntime() {},
    unstable_shouldLoadAsEsm: () => true,
    unstable_importModule: (file) => import(pathToFileURL(file).href),
  });
  return runFile.default(globalConfig, config, environment, runtime, path, send);
}
