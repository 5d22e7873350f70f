import { isPositionwise } from '../graph/is-positionwise.js';
import { joinStages } from '../graph/join-stages.js';
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
  /** Of the model, or of the dense one it came from: the residual stream is the same. */
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
    const joined = new Float32Array(parts.reduce((sum, { length }) => sum + length, 0));
    let end = 0;
    for (const part of parts) {
      joined.set(part, end);
      end += part.length;
    }
    return joined;
  } finally {
    await source.dispose();
  }
}

/** A model that stands before its logits. */
export interface LogitsSource {
  /** Batch after batch. */
  logits(): AsyncGenerator<Tensor>;
  dispose(): Promise<void>;
}

/** How much of the windows is in memory at once. */
export interface LogitsParts {
  readonly windowsAtOnce: number;
  /**
   * Positions whose logits are returned together, at most, where the map to the logits computes each by itself: position by position,
   * not window by window, where several windows run together. Default: all of a batch.
   */
  readonly positionsAtOnce?: number;
}

/** Runs some windows through a model to its logits, some blocks at a time, so that little of it is in memory at once. */
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

/** Hidden states `[windows, length, width]` of a runner, so many positions at a time; undefined where nothing is to be divided. */
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

/** Some positions of every window of a batch, each position's numbers side by side. */
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

/** Tokens that are read one by one on the cache, behind the prompt. */
const STEPS = 2;

/**
 * Runs an entire decoder as its users do, window by window: a prompt, then the last tokens one by one on the cache that the
 * runs before left; without a cache, the window at once.
 *
 * @returns the logits that were returned, of every position or, where the graph gives no others, of the last one of each run.
 * @throws EngineError, UnsupportedModelError.
 */
export async function stepForLogits(decoder: Decoder, windows: readonly Int32Array[]): Promise<LogitsRow[]> {
  const rows: LogitsRow[] = [];
  for (const [window, tokens] of windows.entries()) {
    const prompt = decoder.hasCache ? Math.max(1, tokens.length - STEPS) : tokens.length;
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

/** Rows one after the other, and the same positions of logits `[windows, length, vocabulary]`. */
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
 * Farthest that logits lie from others, as a fraction of the others' range.
 * @returns Infinity when they differ in number or hold what is not a finite number.
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
 * How far a token's logits lie from others, as a fraction of the others' range, for the token in the middle when all are put in
 * order: half of them are no farther off. A few tokens that an undecided router sends elsewhere do not count.
 * @param width Logits of a token.
 * @returns Infinity as `logitsGap` does.
 */
export function middleGap(actual: Float32Array, expected: Float32Array, width: number): number {
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
  const middle = gaps.sort((a, b) => a - b)[Math.floor(gaps.length / 2)]!;
  return (middle / largest) * farthest;
}
