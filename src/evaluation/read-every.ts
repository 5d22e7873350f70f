import { EngineError } from '../errors.js';
import { releaseTensor, releaseTensors } from '../runtime/tensor-memory.js';
import { gatherPast, type Past } from './cached-feeds.js';
import { commonLength, type Decoder, NO_PAST } from './decoder.js';
import type { LogitsTensor } from './token-scorer.js';

/**
 * Logits `[B, S, V]` of every token: token by token with the KV cache for graphs that return only the last token's
 * logits, and in smaller batches where the batch size is limited.
 */
export async function readEvery(
  decoder: Decoder,
  tokens: readonly Int32Array[],
  past: Past = NO_PAST,
): Promise<LogitsTensor> {
  if (tokens.length <= decoder.rowLimit) return readSome(decoder, tokens, past);
  const parts: LogitsTensor[] = [];
  for (let start = 0; start < tokens.length; start += decoder.rowLimit) {
    const part = tokens.slice(start, start + decoder.rowLimit);
    const rows = part.map((_, at) => start + at);
    parts.push(await readSome(decoder, part, gatherPast(past, rows, tokens.length)));
  }
  return joinLogits(parts, 0);
}

async function readSome(decoder: Decoder, tokens: readonly Int32Array[], past: Past): Promise<LogitsTensor> {
  const length = commonLength(tokens, 1);
  if (!decoder.givesLast || !decoder.hasCache || length === 1) return decoder.run(tokens, past);
  const steps: LogitsTensor[] = [];
  for (let at = 0, before = past; at < length; at++) {
    const step = await decoder.advance(
      tokens.map((sequence) => sequence.subarray(at, at + 1)),
      before,
    );
    if (before !== past) releaseTensors(before.tensors);
    if (at === length - 1) releaseTensors(step.past.tensors);
    before = step.past;
    steps.push(step.logits);
  }
  return joinLogits(steps, 1);
}

/** Concatenates logits along sequences (0) or tokens (1); the parts are released. */
function joinLogits(parts: readonly LogitsTensor[], axis: 0 | 1): LogitsTensor {
  const [{ type, dims, data: first }] = parts as [LogitsTensor];
  const outer = axis === 1 ? dims[0]! : 1;
  const length = parts.reduce((sum, { data }) => sum + data.length, 0);
  const joined = new (first.constructor as new (length: number) => typeof first)(length);
  let end = 0;
  for (let row = 0; row < outer; row++) {
    for (const { data } of parts) {
      const size = data.length / outer;
      joined.set(data.subarray(row * size, (row + 1) * size) as never, end);
      end += size;
    }
  }
  parts.forEach(releaseTensor);
  const size = parts.reduce((sum, part) => sum + part.dims[axis]!, 0);
  return { type, dims: dims.with(axis, size), data: joined } as LogitsTensor;
}

/**
 * The decoder with its actual largest batch size, found by a trial run. A graph that computes positions itself may
 * support only one sequence, as exports by torch at opset 23 do.
 */
export async function limitRows(decoder: Decoder): Promise<Decoder> {
  if (decoder.hasPositions || Number.isFinite(decoder.rowLimit)) return decoder;
  try {
    releaseTensor(await decoder.run([Int32Array.of(0), Int32Array.of(0)]));
    return decoder;
  } catch (error) {
    // The engine's error, or this library's wrapper of it.
    const isRefused = [error, Object(error).cause].some((thrown) => thrown instanceof EngineError);
    if (isRefused) return { ...decoder, rowLimit: 1 };
    throw error;
  }
}
