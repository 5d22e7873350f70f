import { UnsupportedModelError } from '../errors.js';
import type { OnnxModel } from '../onnx/onnx-model.js';

/** Refuses a model that was read from codes where floats are written. @throws UnsupportedModelError with what to give instead. */
export function refuseCoded(name: string, { coded }: OnnxModel, remedy: string): void {
  if (coded !== undefined) throw new UnsupportedModelError(`${name} holds quantised weights; ${remedy}`);
}
