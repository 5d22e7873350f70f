import { dirname, join } from 'node:path';
import { isMainThread } from 'node:worker_threads';
import { errorMessage } from '../error-message.js';
import { EngineError } from '../errors.js';
import { findTooOld, type OrtModule, ortVersion } from '../runtime/ort-module.js';
import { hostProcess, requireFrom } from './host-require.js';

/** onnxruntime-node with its list of execution providers. */
export interface NativeRuntime extends OrtModule {
  listSupportedBackends(): readonly { readonly name: string }[];
}

/** Reason why onnxruntime-node cannot be used, with a remedy. */
export interface MissingRuntime {
  readonly failure: string;
  readonly remedy: string;
}

/** Install command that needs only the npm registry. */
const INSTALL_HINT =
  'To get it: ONNXRUNTIME_NODE_INSTALL=skip ONNXRUNTIME_NODE_INSTALL_CUDA=skip npm install onnxruntime-node ' +
  '(its install script downloads CUDA libraries, and fails if it cannot)';

const UPDATE_HINT = 'Update other packages that load it, such as transformers.js';

/** Package that loads its own version of onnxruntime-node. */
const TRANSFORMERS = '@huggingface/transformers';

/**
 * Loads onnxruntime-node. A process can load only one version of its native library, so a loaded one is reused, or
 * else the one that transformers.js would load.
 * @returns the reason if it cannot be used.
 */
export function loadNative(): NativeRuntime | MissingRuntime {
  switchTelemetryOff();
  try {
    const require = requireFrom();
    const native = require(findLoaded(require) ?? findOfTransformers(require) ?? 'onnxruntime-node') as NativeRuntime;
    const tooOld = findTooOld(ortVersion(native));
    return tooOld === undefined ? native : { failure: tooOld, remedy: UPDATE_HINT };
  } catch (cause) {
    return { failure: firstLine(cause), remedy: INSTALL_HINT };
  }
}

/**
 * Loads onnxruntime-web.
 * @param missing Reason why onnxruntime-node cannot be used.
 * @throws EngineError when it cannot be loaded either, with both reasons.
 */
export function loadWasm(missing?: MissingRuntime): OrtModule {
  try {
    return requireFrom()('onnxruntime-web');
  } catch (cause) {
    const webFailure = `onnxruntime-web cannot be loaded (${firstLine(cause)})`;
    if (missing === undefined)
      throw new EngineError(`${webFailure}. Install it: npm install onnxruntime-web`, { cause });
    const { failure, remedy } = missing;
    throw new EngineError(`onnxruntime-node cannot be used (${failure}), and ${webFailure}. ${remedy}`, { cause });
  }
}

/** onnxruntime-node collects telemetry from 1.30 on, and reads this variable when loaded; a user's setting is kept. */
const TELEMETRY_SWITCH = 'ORT_DISABLE_TELEMETRY';

function switchTelemetryOff(): void {
  const { env, emitWarning } = hostProcess();
  if (env[TELEMETRY_SWITCH] !== undefined) return;
  env[TELEMETRY_SWITCH] = '1';
  if (isMainThread) return;
  const remedy = `set ${TELEMETRY_SWITCH}=1 before the process starts, or load fang-prune in the main thread first`;
  emitWarning(`a worker thread cannot switch ONNX Runtime's telemetry off: ${remedy}`, {
    code: 'FANG_PRUNE_TELEMETRY',
  });
}

function findLoaded({ cache }: NodeJS.Require): string | undefined {
  return Object.keys(cache).find((file) => /[\\/]onnxruntime-node[\\/]dist[\\/]index\.js$/.test(file));
}

function findOfTransformers(require: NodeJS.Require): string | undefined {
  try {
    const file = requireFrom(require.resolve(TRANSFORMERS)).resolve('onnxruntime-node');
    // Its version is read without loading it, since a loaded old version cannot be replaced.
    const { version } = require(join(dirname(file), '../package.json')) as { readonly version: string };
    return findTooOld(version) === undefined ? file : undefined;
  } catch {
    return undefined;
  }
}

function firstLine(cause: unknown): string {
  return errorMessage(cause).split('\n')[0]!;
}
