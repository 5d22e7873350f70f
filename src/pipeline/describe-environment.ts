import type { Platform } from '../platform/platform.js';
import type { EnvironmentReport } from '../report/report-schema.js';
import type { Engine } from '../runtime/engine.js';

/** Describes what the result depends on besides the request: the machine, and the engine. */
export function describeEnvironment({ describeMachine }: Platform, engine: Engine): EnvironmentReport {
  const { version: onnxRuntime, executionProviders = [engine.name], threads } = engine;
  return {
    ...describeMachine(),
    ...(onnxRuntime && { onnxRuntime }),
    executionProvider: executionProviders.join(', '),
    ...(threads !== undefined && { threads }),
  };
}
