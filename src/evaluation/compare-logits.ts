import { concatenate } from '../concatenate.js';
import { isPositionwise } from '../onnx/is-positionwise.js';
import { joinStages } from '../onnx/join-stages.js';
import type { OnnxModel } from '../onnx/onnx-model.js';
import type { JobControl } from '../progress.js';
import type { AnalysedModel } from '../runtime/analyse-model.js';
import {
  type Batch,
  type BlockRunner,
  createBlockRunner,
  indexRunGraph,
  makeBatches,
} from '../runtime/block-runner.js';
import type { Engine, SessionOptions, Tensor } from '../runtime/engine.js';
import { tensorFloats } from '../runtime/tensor-floats.js';
import { createMemoryStore } from '../runtime/tensor-store.js';
import { type Decoder, NO_PAST } from './decoder.js';

/** For messages. */
const LOGITS = "the model's logits";

export interface LogitsRequest extends Pick<JobControl, 'signal'>, Pick<SessionOptions, 'optimization'> {
  readonly model: OnnxModel;
  /** Analysis of the model, or of the dense model with the same residual stream. */
  readonly analysed: AnalysedModel;
  readonly engine: Engine;
  /** Windows of equal length. */
  readonly windows: readonly Int32Array[];
}

/** A model's logits on a few windows, `[windows, length, vocabulary]`. */
export async function runForLogits(request: LogitsRequest): Promise<Float32Array> {
  const windowsAtOnce = Math.min(request.windows.length, request.analysed.rowLimit);
  const source = await openLogits(request, { windowsAtOnce });
  try {
    const parts: Float32Array[] = [];
    for await (const part of source.logits()) parts.push(tensorFloats(part, LOGITS));
    return concatenate(Float32Array, parts);
  } finally {
    await source.dispose();
  }
}

/** Windows that were run through a model up to its LM head, which computes their logits batch by batch. */
export interface LogitsSource {
  logits(): AsyncGenerator<Tensor>;
  dispose(): Promise<void>;
}

/** Limits of the logits in memory. */
export interface LogitsParts {
  readonly windowsAtOnce: number;
  /**
   * Largest number of positions whose logits are returned together, where the LM head is computed position by position.
   * With several windows, the same positions of all windows are returned together. Default: all of a batch.
   */
  readonly positionsAtOnce?: number;
}

/** Runs windows through a model block by block up to its logits, so that only a part of the model is in memory. */
export async function openLogits(
  { analysed, ...request }: LogitsRequest,
  { windowsAtOnce, positionsAtOnce = Number.POSITIVE_INFINITY }: LogitsParts,
): Promise<LogitsSource> {
  const { layout, partition } = analysed.detected;
  const { logits } = layout;
  const index = indexRunGraph(request.model);
  const cuts = joinStages(request.model, { index, cuts: partition.cuts, logits });
  const given = { ...request, cuts, facts: analysed.facts, tokenInput: analysed.tokenInput };
  const batches = makeBatches(request.windows, windowsAtOnce);
  let runner = createBlockRunner({ ...given, batches, states: createMemoryStore() });
  try {
    while (runner.segment < cuts.length) await runner.advance();
    const from = cuts.at(-1);
    if (from !== undefined && isPositionwise(index, { from, to: logits })) {
      const parts = await divideStates(runner, positionsAtOnce);
      if (parts !== undefined) {
        const divided = createBlockRunner({ ...given, batches: parts.batches, states: createMemoryStore() });
        await divided.restore(parts.saved());
        await runner.dispose();
        runner = divided;
      }
    }
  } catch (cause) {
    await runner.dispose();
    throw cause;
  }
  return {
    async *logits() {
      for await (const { values } of runner.observe({ fetches: [logits] })) yield values[logits]!;
    },
    dispose: () => runner.dispose(),
  };
}

/** Splits hidden states `[windows, length, width]` of a runner by positions; undefined where that is not needed or possible. */
async function divideStates({ batches, states, save }: BlockRunner, positionsAtOnce: number) {
  const parts: Batch[] = [];
  const places: { readonly batch: Batch; readonly start: number }[] = [];
  for (const batch of batches) {
    const { batchSize, sequenceLength, firstToken } = batch;
    const { dims } = await states.get(batch.index);
    if (dims.length !== 3 || dims[0] !== batchSize || dims[1] !== sequenceLength) return undefined;
    const step = Math.max(1, Math.floor(positionsAtOnce / batchSize));
    for (let start = 0; start < sequenceLength; start += step) {
      const length = Math.min(step, sequenceLength - start);
      const tokens = positionsOf(batch.tokens, { batchSize, sequenceLength, start, length });
      parts.push({ index: parts.length, firstToken, batchSize, sequenceLength: length, tokens });
      places.push({ batch, start });
    }
  }
  if (parts.length === batches.length) return undefined;
  async function* saved() {
    for await (const head of save()) {
      yield head;
      break;
    }
    for (const [at, { batch, start }] of places.entries()) {
      const { sequenceLength: length } = parts[at]!;
      const { data, dims, ...state } = await states.get(batch.index);
      const own = positionsOf(data as Float32Array, { ...batch, start, length });
      yield { state: { ...state, dims: dims.with(1, length), data: own }, held: new Map() };
    }
  }
  return { batches: parts, saved };
}

/** Copies a range of positions of every window of a batch. */
function positionsOf<Data extends Float32Array | Int32Array>(
  data: Data,
  { batchSize, sequenceLength, start, length }: PositionRange,
): Data {
  const width = data.length / (batchSize * sequenceLength);
  const picked = data.slice(0, batchSize * length * width) as Data;
  for (let row = 0; row < batchSize; row += 1) {
    const from = (row * sequenceLength + start) * width;
    picked.set(data.subarray(from, from + length * width), row * length * width);
  }
  return picked;
}

interface PositionRange extends Pick<Batch, 'batchSize' | 'sequenceLength'> {
  readonly start: number;
  readonly length: number;
}

/** Logits of some positions of one window. */
export interface LogitsRow {
  readonly window: number;
  readonly position: number;
  readonly logits: Float32Array;
}

/** Tokens that are read one by one with the KV cache, after the prompt. */
export const CACHE_STEPS = 2;

/**
 * Runs an entire decoder as in generation, window by window: a prompt, then the last tokens one by one with the KV
 * cache; without a cache, the window at once.
 *
 * @returns logits of every position, or only of each run's last position if the graph returns no others.
 * @throws EngineError, UnsupportedModelError.
 */
export async function stepForLogits(decoder: Decoder, windows: readonly Int32Array[]): Promise<LogitsRow[]> {
  const rows: LogitsRow[] = [];
  for (const [window, tokens] of windows.entries()) {
    const prompt = decoder.hasCache ? Math.max(1, tokens.length - CACHE_STEPS) : tokens.length;
    let past = NO_PAST;
    for (let end = prompt; end <= tokens.length; end += 1) {
      const part = [tokens.subarray(past.length, end)];
      const { logits, past: next } = decoder.hasCache
        ? await decoder.advance(part, past)
        : { logits: await decoder.run(part), past: NO_PAST };
      past = next;
      const values = tensorFloats(logits, LOGITS);
      const [, count = 0, width = 0] = logits.dims;
      for (let row = 0; row < count; row += 1) {
        rows.push({ window, position: end - count + row, logits: values.subarray(row * width, (row + 1) * width) });
      }
    }
  }
  return rows;
}

/** Concatenates rows, and picks the same positions of logits `[windows, length, vocabulary]`. */
export function pickRows(
  rows: readonly LogitsRow[],
  logits: Float32Array,
  windows: readonly Int32Array[],
): [found: Float32Array, expected: Float32Array] {
  const [{ length: windowLength } = { length: 0 }] = windows;
  const width = logits.length / (windows.length * windowLength);
  const found = new Float32Array(rows.length * width);
  const expected = new Float32Array(rows.length * width);
  for (const [at, { window, position, logits: row }] of rows.entries()) {
    if (row.length !== width) return [row, expected];
    const start = (window * windowLength + position) * width;
    found.set(row, at * width);
    expected.set(logits.subarray(start, start + width), at * width);
  }
  return [found, expected];
}

/**
 * Largest difference of logits, as a fraction of the range of the expected ones.
 * @returns Infinity when the lengths differ or a value is not finite.
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

/**
 * Median over tokens of the largest difference of a token's logits, as a fraction of the expected logits' range. It is
 * robust to a few tokens that a close router decision sends to other experts.
 * @param width Logits per token.
 * @returns Infinity in the cases of `logitsGap`.
 */
export function medianGap(actual: Float32Array, expected: Float32Array, width: number): number {
  const farthest = logitsGap(actual, expected);
  if (!Number.isFinite(farthest) || farthest === 0) return farthest;
  const gaps: number[] = [];
  let largest = 0;
  for (let start = 0; start < expected.length; start += width) {
    let gap = 0;
    for (let at = start; at < start + width; at += 1) gap = Math.max(gap, Math.abs(actual[at]! - expected[at]!));
    gaps.push(gap);
    largest = Math.max(largest, gap);
  }
  const median = gaps.sort((a, b) => a - b)[Math.floor(gaps.length / 2)]!;
  return (median / largest) * farthest;
}
