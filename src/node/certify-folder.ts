import { join } from 'node:path';
import { findHeldOutWindows } from '../calibration/held-out-windows.js';
import { NumericalError, UnsupportedModelError } from '../errors.js';
import { logitsGap, runForLogits } from '../evaluation/compare-logits.js';
import type { OnnxModel } from '../onnx/onnx-model.js';
import type { PruneJob } from '../prune.js';
import { type MaskedModule, maskModel } from '../removal/mask-model.js';
import type { CertificateReport } from '../report/report-schema.js';
import { findTokenizer } from './load-tokenizer.js';
import { contextLength, type ModelFolder } from './model-folder.js';
import { withModelFolder } from './with-model-folder.js';
import { withTensorStore } from './with-tensor-store.js';

/** What is compared with what. */
export interface CertifyRequest extends Pick<PruneJob, 'model' | 'analysed' | 'engine' | 'windows'> {
  /** The dense model's. */
  readonly folder: ModelFolder;
  /** Folder that was written. */
  readonly written: string;
  readonly modules: readonly MaskedModule[];
  readonly signal?: AbortSignal | undefined;
}

/** Short, for it takes its time in every run; long enough that rotary positions and masks matter. */
const WINDOW = { windowCount: 2, windowLength: 64 };

/** Farthest that logits may be, as a fraction of their range: what rounding in another order comes to. */
const TOLERANCES = { float32: 1e-4, half: 1e-2 };

/** FLOAT16 and BFLOAT16. */
const HALF_TYPES: ReadonlySet<number> = new Set([10, 16]);

/**
 * Opens a folder that was written and compares its logits with the masked original's: the dense graph with the removed
 * channels zeroed and the repairs applied. Both run block by block, one after the other.
 *
 * @returns a remark in place of a certificate for a model that cannot be run block by block.
 * @throws NumericalError when they differ; ModelFormatError, EngineError when the written model cannot be read or run.
 */
export async function certifyFolder(request: CertifyRequest): Promise<CertificateReport | string> {
  const { folder, model, analysed, engine, signal } = request;
  const { vocabularySize } = analysed.detected.layout;
  const windowLength = Math.min(WINDOW.windowLength, contextLength(folder) ?? WINDOW.windowLength);
  const tokenizer = await findTokenizer(folder);
  const shape = { ...WINDOW, windowLength };
  const heldOut = await findHeldOutWindows({ ...shape, calibration: request.windows, tokenizer, vocabularySize });
  const { windows } = heldOut;
  const run = (subject: OnnxModel) => runForLogits({ model: subject, analysed, engine, windows, signal });
  const expected = await withTensorStore(async (store) =>
    run(await maskModel(model, request.modules, { detected: analysed.detected, store })),
  ).catch((error) => {
    if (error instanceof UnsupportedModelError) return error;
    throw error;
  });
  if (expected instanceof UnsupportedModelError) return `not checked against the masked original: ${expected.message}`;
  const path = join(request.written, folder.modelFile);
  const actual = await withModelFolder(path, folder, async (written) => run(await written.load()));
  const gap = logitsGap(actual, expected);
  const isHalf = [...model.weights.values()].some(({ dataType }) => HALF_TYPES.has(dataType));
  const tolerance = isHalf ? TOLERANCES.half : TOLERANCES.float32;
  if (!(gap <= tolerance)) {
    throw new NumericalError(
      `the pruned model does not compute what the masked original does: its logits are ${gap.toExponential(1)} of their range apart, at most ${tolerance} is rounding. ` +
        'Nothing was written. Please report the model; "certify: false" (--no-certify) writes it all the same',
    );
  }
  const tokens = windows.length * windowLength;
  return { windows: windows.length, tokens, from: heldOut.from, gap, tolerance, passed: true };
}
