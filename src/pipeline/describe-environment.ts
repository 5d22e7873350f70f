import type { EnvironmentReport } from '../report/report-schema.js';
import type { Engine } from '../runtime/engine.js';
import type { Platform } from '../runtime/platform.js';

/** Describes machine and engine, on which results depend. */
export function describeEnvironment({ describeMachine }: Platform, engine: Engine): EnvironmentReport {
  const { version: onnxRuntime, executionProviders = [engine.name], threads } = engine;
  return {
    ...describeMachine(),
    ...(onnxRuntime && { onnxRuntime }),
    executionProvider: executionProviders.join(', '),
    ...(threads !== undefined && { threads }),
  };
}
