import { errorMessage } from '../error-message.js';

/** What ONNX Runtime, C++ and JavaScript say where memory is short. */
const SAID =
  /bad_alloc|bad allocation|failed to allocate memory|out of memory|cannot allocate memory|allocation failed/i;

/** What to do where memory is short. */
export const MEMORY_REMEDY =
  'Memory ran short: take shorter windows (calibration.windowLength, --window-length), end other programs, or use a machine with more memory';

/** Whether something failed for want of memory. */
export function isShortOfMemory(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  return SAID.test(errorMessage(error)) || isShortOfMemory(error.cause);
}
