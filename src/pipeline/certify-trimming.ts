import { concatenate } from '../concatenate.js';
import { EngineError, NumericalError } from '../errors.js';
import { findHeldOutWindows } from '../evaluation/held-out-windows.js';
import type { TrimmingCertificate } from '../report/report-schema.js';
import type { Engine } from '../runtime/engine.js';
import { tensorFloats } from '../runtime/tensor-floats.js';
import { findTokenizer } from '../storage/load-tokenizer.js';
import { type ModelFolder, openModelFolder } from '../storage/model-folder.js';
import type { JobContext } from './job-context.js';
import { withLanguageModel } from './open-language-model.js';

interface CertifyInput {
  readonly folder: ModelFolder;
  /** The model without the removed tokens. */
  readonly trimmed: ModelFolder;
  readonly engine: Engine;
  /** Old ids by new ones. */
  readonly keep: Int32Array;
}

/** Few tokens, since both models are opened entirely. */
const WINDOW = { windowCount: 2, windowLength: 64 };

/** Kernels may sum in another order for fewer columns. */
const TOLERANCE = 1e-4;

/** Certifies a folder that was written. @param input `written` is its absolute path */
export async function certifyWritten(
  context: JobContext,
  { written, ...input }: Omit<CertifyInput, 'trimmed'> & { readonly written: string },
): Promise<TrimmingCertificate | undefined> {
  const { platform } = context;
  const trimmed = await openModelFolder(platform, platform.files.resolve(written, input.folder.modelFile));
  return certifyTrimming(context, { ...input, trimmed }).finally(() => trimmed.close());
}

/**
 * Opens a trimmed model in ONNX Runtime, and compares the logits of remaining tokens with the original's, on text of
 * these tokens.
 * @returns undefined if the original does not run here either
 * @throws NumericalError where they differ by more than rounding; EngineError if only the original runs
 */
export function certifyTrimming(
  { timed, remarks, onProgress, signal }: JobContext,
  { folder, trimmed, engine, keep }: CertifyInput,
): Promise<TrimmingCertificate | undefined> {
  return timed('certify', async () => {
    const longest = (await folder.longestWindow()) ?? WINDOW.windowLength;
    const { windows } = await findHeldOutWindows({
      ...WINDOW,
      windowLength: Math.min(WINDOW.windowLength, longest),
      calibration: [],
      tokenizer: await findTokenizer(trimmed),
      vocabularySize: keep.length,
      signal,
    });
    const originalWindows = windows.map((window) => window.map((id) => keep[id]!));
    const before = await readLogits(engine, folder, originalWindows).catch((error: unknown) => {
      if (error instanceof EngineError) return error;
      throw error;
    });
    if (before instanceof EngineError) {
      remarks.push(`not compared with the original, which does not run here: ${before.message}`);
      return undefined;
    }
    onProgress?.({ stage: 'certify', done: 1, total: 2 });
    signal?.throwIfAborted();
    const after = await readLogits(engine, trimmed, windows);
    onProgress?.({ stage: 'certify', done: 2, total: 2 });
    return compareLogits(before, after, { keep, windows });
  });
}

/** Logits, `[positions, width]`. */
interface ReadLogits {
  readonly values: Float32Array;
  readonly width: number;
}

function readLogits(engine: Engine, folder: ModelFolder, windows: readonly Int32Array[]): Promise<ReadLogits> {
  return withLanguageModel(engine, folder, {}, async (model) => {
    const parts: Float32Array[] = [];
    let width = 0;
    for (const window of windows) {
      const logits = await model.readLogits([window]);
      width = logits.dims.at(-1) ?? 0;
      parts.push(Float32Array.from(tensorFloats(logits, "the model's logits")));
    }
    return { values: concatenate(Float32Array, parts), width };
  });
}

/** @throws NumericalError */
function compareLogits(
  before: ReadLogits,
  after: ReadLogits,
  { keep, windows }: { readonly keep: Int32Array; readonly windows: readonly Int32Array[] },
): TrimmingCertificate {
  let [low, high, largest] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, 0];
  const positions = after.values.length / after.width;
  for (let position = 0; position < positions; position += 1) {
    for (let id = 0; id < after.width; id += 1) {
      const old = before.values[position * before.width + keep[id]!]!;
      const found = after.values[position * after.width + id]!;
      // Some models give NaN after a token whose embedding is zero.
      if (Number.isNaN(old) && Number.isNaN(found)) continue;
      low = Math.min(low, old);
      high = Math.max(high, old);
      const difference = old === found ? 0 : Math.abs(old - found);
      largest = Number.isNaN(difference) ? Number.POSITIVE_INFINITY : Math.max(largest, difference);
    }
  }
  if (low > high)
    throw new NumericalError(
      "all logits of the original are NaN, so nothing can be compared; check the model's weights",
    );
  const gap = largest === 0 ? 0 : largest / (high - low);
  if (!(gap <= TOLERANCE))
    throw new NumericalError(
      `the trimmed model's logits of remaining tokens differ from the original's by ${gap.toExponential(1)} of their range; at most ${TOLERANCE} is rounding. Nothing was written. Please report the model; "certify: false" writes it nevertheless`,
    );
  return {
    windows: windows.length,
    tokens: windows.reduce((sum, { length }) => sum + length, 0),
    gap,
    equal: largest === 0,
    tolerance: TOLERANCE,
  };
}
