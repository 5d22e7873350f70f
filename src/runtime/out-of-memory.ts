import { errorMessage } from '../error-message.js';

/** Messages of ONNX Runtime, C++ and JavaScript when memory runs out. */
const OUT_OF_MEMORY =
  /bad_alloc|bad allocation|failed to allocate memory|out of memory|cannot allocate memory|allocation failed/i;

/** Advice when memory runs out. */
export const MEMORY_REMEDY =
  'Memory ran short: take shorter windows (calibration.windowLength), end other programs, or use a machine with more memory';

/** Whether something failed because memory ran out. */
export function isOutOfMemory(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  return OUT_OF_MEMORY.test(errorMessage(error)) || isOutOfMemory(error.cause);
}
