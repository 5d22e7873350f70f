import { joinStages } from '../graph/join-stages.js';
import type { OnnxModel } from '../onnx/onnx-model.js';
import type { JobControl } from '../progress.js';
import type { AnalysedModel } from '../runtime/analyse-model.js';
import { createBlockRunner, indexRunGraph, makeBatches } from '../runtime/block-runner.js';
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
  const source = await openLogits(request, Math.min(request.windows.length, request.analysed.rowLimit));
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

/** Runs some windows through a model to its logits, some blocks at a time, so that little of it is in memory at once. */
export async function openLogits(
  { analysed, ...request }: LogitsRequest,
  windowsAtOnce: number,
): Promise<LogitsSource> {
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
    batches: makeBatches(request.windows, windowsAtOnce),
    states: createMemoryStore(),
  });
  try {
    while (runner.segment < cuts.length) await runner.advance();
  } catch (cause) {
    await runner.dispose();
    throw cause;
  }
  return {
    async *logits() {
      for await (const { values } of runner.observe({ fetches: [layout.logits] })) yield values[layout.logits]!;
    },
    dispose: runner.dispose,
  };
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
 * Runs a whole decoder as its users do, window by window: a prompt, then the last tokens one by one on the cache that the
 * runs before left; without a cache, the window at once.
 *
 * @returns the logits that were handed out, of every position or, where the graph gives no others, of the last one of each run.
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
