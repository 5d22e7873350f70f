import type { StoreTensor } from '../removal/repair-linear.js';
import { createSpillFile } from './spill-file.js';

/** Lends a temporary file for rewritten weights while an action runs. */
export async function withTensorStore<T>(action: (store: StoreTensor) => Promise<T>): Promise<T> {
  const file = await createSpillFile();
  try {
    return await action((shape, bytes) => file.appendTensor(shape, bytes));
  } finally {
    await file.dispose();
  }
}
