import { UnsupportedModelError } from '../errors.js';
import type { OnnxModel } from '../onnx/onnx-model.js';

/** Refuses a quantised model in calls that write floats. @throws UnsupportedModelError with a remedy */
export function refuseCoded(name: string, { coded }: OnnxModel, remedy: string): void {
  if (coded !== undefined) throw new UnsupportedModelError(`${name} has quantised weights; ${remedy}`);
}
