import { EngineError } from '../errors.js';
import { findDataType } from '../onnx/data-types.js';
import type { OnnxModel } from '../onnx/onnx-model.js';
import { isHalfPrecision } from '../onnx/retype-floats.js';
import { formatBytes } from '../report/format-quantity.js';
import type { Engine } from '../runtime/engine.js';
import type { ModelFolder } from '../storage/model-folder.js';

/** Fraction of the machine's memory that a session of the entire model may take. */
const MAX_MEMORY_FRACTION = 0.7;

const FLOAT_BYTES = 4;

/**
 * Refuses text generation with a model that does not fit in memory: opened block by block, each token would read all
 * weights from the disk.
 * @throws EngineError with the needed and the available memory, and a remedy.
 */
export async function refuseTooLarge(engine: Engine, folder: ModelFolder): Promise<void> {
  const reason = await explainTooLarge(engine, folder);
  if (reason === undefined) return;
  throw new EngineError(
    `${reason}, so every token would read all weights from the disk; use a machine with more memory, or calibrate on text (calibration.generate: false)`,
  );
}

/** Reason why a model does not fit in memory as a whole; undefined if it fits, or this is unknown. */
export async function explainTooLarge(engine: Engine, folder: ModelFolder): Promise<string | undefined> {
  const { memoryBytes } = folder.platform;
  const computesOnCpu = engine.executionProviders?.every((provider) => provider === 'cpu') ?? false;
  if (memoryBytes === undefined || !computesOnCpu) return undefined;
  const bytes = sessionBytes(await folder.load());
  if (bytes <= MAX_MEMORY_FRACTION * memoryBytes) return undefined;
  return `opening the whole model takes about ${formatBytes(bytes)} of memory, and this machine has ${formatBytes(memoryBytes)}`;
}

/** Memory of a session of the entire model; 0 if it is opened block by block. */
export async function entireModelBytes(engine: Engine, folder: ModelFolder): Promise<number> {
  return (await explainTooLarge(engine, folder)) === undefined ? sessionBytes(await folder.load()) : 0;
}

/** Memory of a session on a CPU: ONNX Runtime casts float16 weights to float32 when it opens the model. */
function sessionBytes(model: OnnxModel): number {
  const { weights } = model.coded ?? model;
  let sum = 0;
  for (const { dataType, byteLength } of weights.values())
    sum += isHalfPrecision(dataType) ? (byteLength * FLOAT_BYTES * 8) / findDataType(dataType)!.bits : byteLength;
  return sum;
}
