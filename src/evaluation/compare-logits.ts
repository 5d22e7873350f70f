import { UnsupportedModelError } from '../errors.js';
import { joinStages } from '../graph/join-stages.js';
import { decodeFloats } from '../onnx/float-encoding.js';
import type { OnnxModel } from '../onnx/onnx-model.js';
import type { JobControl } from '../progress.js';
import type { AnalysedModel } from '../runtime/analyse-model.js';
import { createBlockRunner, indexRunGraph, makeBatches } from '../runtime/block-runner.js';
import { dataTypeOf, type Engine, type Tensor } from '../runtime/engine.js';
import { createMemoryStates } from '../runtime/hidden-states.js';

export interface LogitsRequest extends Pick<JobControl, 'signal'> {
  readonly model: OnnxModel;
  /** Of the model, or of the dense one it came from: the residual stream is the same. */
  readonly analysed: AnalysedModel;
  readonly engine: Engine;
  /** Windows of equal length. */
  readonly windows: readonly Int32Array[];
}

/** A model's logits on a few windows, `[windows, length, vocabulary]`; run some blocks at a time, so that little of it is in memory at once. */
export async function runForLogits({ analysed, ...request }: LogitsRequest): Promise<Float32Array> {
  const { layout, partition } = analysed.detected;
  const cuts = joinStages(request.model, {
    index: indexRunGraph(request.model),
    cuts: partition.cuts,
    logits: layout.logits,
  });
  const runner = createBlockRunner({
    ...request,
    cuts,
    facts: analysed.facts,
    tokenInput: analysed.tokenInput,
    batches: makeBatches(request.windows, request.windows.length),
    states: createMemoryStates(),
  });
  try {
    while (runner.stage < cuts.length) await runner.advance();
    for await (const { values } of runner.observe({ fetches: [layout.logits] }))
      return toFloat32(values[layout.logits]!);
    throw new RangeError('there are no windows to run');
  } finally {
    await runner.dispose();
  }
}

function toFloat32({ type, data }: Tensor): Float32Array {
  if (type === 'float32') return data as Float32Array;
  if (type !== 'float16')
    throw new UnsupportedModelError(`the model's logits are ${type}, expected float32 or float16`);
  return decodeFloats(dataTypeOf(type), new Uint8Array((data as Uint16Array).slice().buffer));
}

/**
 * Farthest that logits lie from others, as a fraction of the others' range.
 * @returns Infinity when they differ in number or hold what is no finite number.
 */
export function logitsGap(actual: Float32Array, expected: Float32Array): number {
  if (actual.length !== expected.length) return Number.POSITIVE_INFINITY;
  let least = Number.POSITIVE_INFINITY;
  let most = Number.NEGATIVE_INFINITY;
  let farthest = 0;
  for (let at = 0; at < expected.length; at += 1) {
    const found = actual[at]!;
    const value = expected[at]!;
    if (!Number.isFinite(found) || !Number.isFinite(value)) return Number.POSITIVE_INFINITY;
    least = Math.min(least, value);
    most = Math.max(most, value);
    farthest = Math.max(farthest, Math.abs(found - value));
  }
  return farthest === 0 ? 0 : farthest / (most - least);
}
