import { errorMessage } from '../error-message.js';
import { EngineError, NumericalError, UnsupportedModelError } from '../errors.js';
import {
  type LogitsRequest,
  type LogitsRow,
  logitsGap,
  medianGap,
  pickRows,
  runForLogits,
  stepForLogits,
} from '../evaluation/compare-logits.js';
import { createDecoder } from '../evaluation/decoder.js';
import type { HeldOutWindows } from '../evaluation/held-out-windows.js';
import { createRandom } from '../linalg/random.js';
import { withoutEmbeddingPrefix } from '../onnx/join-embedding.js';
import { isHalfPrecision } from '../onnx/retype-floats.js';
import { operatorOf } from '../operators/table.js';
import type { PruneJob } from '../prune/job.js';
import type { ModelChange } from '../removal/apply-change.js';
import { type MaskOptions, maskModel } from '../removal/mask-model.js';
import type { CertificateReport } from '../report/report-schema.js';
import { analyseModel } from '../runtime/analyse-model.js';
import { isOutOfMemory } from '../runtime/out-of-memory.js';
import { describeUnrunnable } from '../runtime/refuse-unrunnable.js';
import { cacheSizes, type ModelFolder, openModelFolder } from '../storage/model-folder.js';
import { withScratchWeights } from '../storage/scratch-weights.js';
import type { Stage } from './job-context.js';
import { openSession } from './open-language-model.js';
import { explainTooLarge } from './refuse-too-large.js';

/** The models to compare. */
export interface CertifyInput extends Pick<PruneJob, 'model' | 'analysed' | 'engine'> {
  /** See `deferHeldOutWindows`. */
  readonly heldOut: () => Promise<HeldOutWindows>;
  /** The dense model's. */
  readonly folder: ModelFolder;
  /** Absolute path of the written folder. */
  readonly written: string;
  /** The model file in it. Default: the dense model's. */
  readonly file?: string | undefined;
  /** Whether the written model has half precision, and the dense model does not. */
  readonly isHalf?: boolean | undefined;
  /** Whether the written model's products round activations to eight bits. */
  readonly roundsActivations?: boolean | undefined;
  readonly change: ModelChange;
}

/** The input with the written model opened from its folder. */
interface CertifyRequest extends Omit<CertifyInput, 'written' | 'file'> {
  readonly written: ModelFolder;
  readonly signal: AbortSignal | undefined;
  /** Called with the number of finished runs. */
  readonly onRun: (done: number) => void;
}

/** Runs: the masked original, its perturbed variant, and the written model. */
const RUNS = 3;

/** Short for speed, and long enough for rotary positions and masks to matter. */
export const CERTIFIED_WINDOWS = { windowCount: 2, windowLength: 64 };

/** Bounds of the tolerance, as a fraction of the logits' range. */
const TOLERANCES = {
  float32: { least: 1e-5, most: 1e-3 },
  half: { least: 2e-3, most: 2e-2 },
};

/** Tolerance with activations rounded to eight bits per tensor or block, where outliers reduce precision. */
const ACTIVATION_ROUNDING = 0.15;

/** Tolerance as a multiple of the model's own rounding; for valid models the gap was at most three times that. */
const ROUNDINGS = 10;

/** Tolerance as a multiple of the noise of the dense model's kernels; for valid models the gap was at most 2.1 times that. */
const KERNEL_NOISES = 3;

/** Largest gap that is attributed to kernels. */
const MAX_KERNEL_NOISE = 0.5;

/**
 * Opens a written folder in ONNX Runtime by its path, as users do, and runs windows: a prompt, then single tokens with
 * the KV cache. Its logits are compared with the masked original's: the dense graph with the removed channels zeroed
 * and the repairs applied, run block by block. The tolerance follows from the model's own rounding: the change of these
 * logits when pruned weights move to neighbouring numbers and ONNX Runtime does not fuse operators. If the gap is
 * larger, the written graph also runs in float32, and the noise of the dense model's kernels is measured, since kernels
 * that round activations change its logits too.
 *
 * With too little memory, the comparison is partial or skipped, with a remark.
 * @throws NumericalError when they differ; EngineError when ONNX Runtime runs the original but not the written model.
 */
export const certify: Stage<CertifyInput, CertificateReport | undefined> = {
  name: 'certify',
  run: ({ platform, timed, remarks, onProgress, signal }, { written: path, file, ...input }) =>
    timed('certify', async () => {
      const { folder } = input;
      const written = await openModelFolder(platform, platform.files.resolve(path, file ?? folder.modelFile), folder);
      try {
        const onRun = (done: number) => onProgress?.({ stage: 'certify', done, total: RUNS });
        return await compare({ ...input, written, signal, onRun }, remarks);
      } catch (error) {
        // A model that changed meanwhile explains any difference.
        await folder.checkUnchanged();
        if (!isOutOfMemory(error)) throw error;
        remarks.push(`written, but not checked: ${errorMessage(error)}`);
        return undefined;
      } finally {
        await written.close();
      }
    }),
};

async function compare(request: CertifyRequest, remarks: string[]): Promise<CertificateReport | undefined> {
  const { windows: heldOut, from } = await request.heldOut();
  const windows = heldOut
    .slice(0, CERTIFIED_WINDOWS.windowCount)
    .map((window) => window.subarray(0, CERTIFIED_WINDOWS.windowLength));
  const masked = await runMasked(request, windows);
  request.onRun(RUNS - 1);
  const tooLarge = await explainTooLarge(request.engine, request.written);
  const opened = tooLarge === undefined ? await runOpened(request, windows) : new EngineError(tooLarge);
  if (masked instanceof UnsupportedModelError) {
    if (tooLarge !== undefined) {
      remarks.push(`not checked: ${tooLarge}; and against the masked original: ${masked.message}`);
      return undefined;
    }
    if (opened instanceof EngineError) throw opened;
    remarks.push(`opened and run, but not compared with the masked original: ${masked.message}`);
    return undefined;
  }
  const tokenCount = windows.length * windows[0]!.length;
  const isRounded = request.isHalf || request.roundsActivations || isHalf(request.model);
  const isRouted = isRounded && choosesExperts(request.model);
  const gapOf = (found: Float32Array, expected: Float32Array) =>
    isRouted ? medianGap(found, expected, masked.logits.length / tokenCount) : logitsGap(found, expected);
  if (isRouted) remarks.push(ROUTED);
  const gapInFloat32 = async () => gapOf(await runWritten(request, windows), masked.logits);
  const compared =
    opened instanceof EngineError
      ? { gap: await gapInFloat32(), tokens: tokenCount }
      : { gap: gapOf(...pickRows(opened, masked.logits, windows)), tokens: opened.length };
  const measured = {
    windows: windows.length,
    from,
    opened: !(opened instanceof EngineError),
    ...compared,
    rounding: masked.rounding,
  };
  const inFloat32 = { ...request, roundsActivations: false };
  const exceedsTolerance = measured.gap > toleranceOf(request, measured);
  if (measured.opened && (exceedsTolerance || request.roundsActivations)) {
    // If the graph is correct in float32, kernels cause the rest of the gap.
    const gap = await gapInFloat32();
    checkGap(exceedsTolerance ? { ...inFloat32, isHalf: false } : inFloat32, { ...measured, gap });
    const noise = exceedsTolerance && { kernelNoise: await measureKernelNoise(request, windows, gapOf) };
    return checkGap(request, { ...measured, gapInFloat32: gap, ...noise });
  }
  const certificate = checkGap(inFloat32, measured);
  const unopenable = tooLarge ?? (isOutOfMemory(opened) ? errorMessage(opened) : undefined);
  if (unopenable !== undefined) remarks.push(`checked block by block, but not opened as a whole: ${unopenable}`);
  else if (opened instanceof EngineError) remarks.push(unopened(request, opened));
  return certificate;
}

const ROUTED =
  'rounding may route tokens with close router scores to other experts, so the certificate compares the median token, not the worst';

const choosesExperts = ({ proto }: CertifyInput['model']): boolean =>
  proto.graph!.node.some((node) => operatorOf(node)?.tokens === 'experts');

const isHalf = (model: CertifyInput['model']): boolean =>
  [...withoutEmbeddingPrefix(model).weights.values()].some(({ dataType }) => isHalfPrecision(dataType));

/** The masked original's logits, `[windows, length, vocabulary]`, and their change under perturbation. */
interface Masked {
  readonly logits: Float32Array;
  readonly rounding: number;
}

/** @returns the error if the model cannot be run block by block */
async function runMasked(
  { model, change, isHalf: isWrittenHalf, ...request }: CertifyRequest,
  windows: readonly Int32Array[],
): Promise<Masked | UnsupportedModelError> {
  try {
    const { analysed } = request;
    // The written model rounds to half precision, independent of the original's weights.
    const neighbours = isWrittenHalf ? 'half' : 'own';
    const run = (options: Pick<MaskOptions, 'nudge'> & Pick<LogitsRequest, 'optimization'> = {}) =>
      withScratchWeights(request.written.platform, async (store) => {
        const masked = await maskModel(model, change, { analysed, store, nudge: options.nudge, neighbours });
        return runForLogits({ ...request, ...options, model: masked, windows });
      });
    const logits = await run();
    request.onRun(1);
    const rounded = await run({ nudge: createRandom(0), optimization: 'basic' });
    return { logits, rounding: logitsGap(rounded, logits) };
  } catch (error) {
    if (error instanceof UnsupportedModelError) return error;
    throw error;
  }
}

/** Logits of the written model, opened as users do. @returns the error if the original does not run here either */
async function runOpened(
  { engine, folder, written }: CertifyRequest,
  windows: readonly Int32Array[],
): Promise<LogitsRow[] | EngineError> {
  try {
    return await readLogits(engine, written, windows);
  } catch (error) {
    if (!(error instanceof EngineError)) throw error;
    if (isOutOfMemory(error)) return error;
    const failure = await readLogits(engine, folder, windows).catch((cause) => cause as unknown);
    if (failure instanceof EngineError) return error;
    throw new EngineError(
      `the pruned model does not run though the original does: ${error.message}. Nothing was written. ` +
        `Please report the model; ${WRITE_ANYWAY}`,
      { cause: error },
    );
  }
}

/** Logits of a model, opened as users do. */
async function readLogits(
  engine: CertifyRequest['engine'],
  folder: ModelFolder,
  windows: readonly Int32Array[],
): Promise<LogitsRow[]> {
  const session = await openSession(engine, folder);
  try {
    return await stepForLogits(createDecoder(session, cacheSizes(folder)), windows);
  } finally {
    await session.release();
  }
}

function unopened(request: CertifyRequest, error: EngineError): string {
  const { message } = describeUnrunnable(error, request);
  return `read block by block, since neither the written model nor the original runs here: ${message}`;
}

/** Logits of the written model run block by block, with unsupported operators lowered. */
async function runWritten(request: CertifyRequest, windows: readonly Int32Array[]): Promise<Float32Array> {
  const model = await request.written.load();
  const analysed = await analyseModel(model, request.engine, request.signal);
  return runForLogits({ ...request, model, analysed, windows });
}

/** Gap between the dense model's logits opened by path and those of its graph in float32. */
async function measureKernelNoise(
  { model, analysed, engine, folder, signal }: CertifyRequest,
  windows: readonly Int32Array[],
  gapOf: (found: Float32Array, expected: Float32Array) => number,
): Promise<number> {
  const opened = await readLogits(engine, folder, windows);
  const exact = await runForLogits({ model, analysed, engine, windows, signal });
  return gapOf(...pickRows(opened, exact, windows));
}

/** Largest gap that counts as rounding. */
function toleranceOf(
  { model, roundsActivations, ...request }: CertifyRequest,
  { rounding, kernelNoise = 0 }: Pick<CertificateReport, 'rounding' | 'kernelNoise'>,
): number {
  const { least, most } = TOLERANCES[request.isHalf || isHalf(model) ? 'half' : 'float32'];
  const byRounding = roundsActivations ? ACTIVATION_ROUNDING : Math.min(most, Math.max(least, ROUNDINGS * rounding));
  return Math.max(byRounding, Math.min(MAX_KERNEL_NOISE, KERNEL_NOISES * kernelNoise));
}

/** @throws NumericalError when the gap is more than rounding. */
function checkGap(request: CertifyRequest, found: Omit<CertificateReport, 'tolerance' | 'passed'>): CertificateReport {
  const { gap } = found;
  const tolerance = toleranceOf(request, found);
  if (gap <= tolerance) return { ...found, tolerance, passed: true };
  const gapText = `${gap.toExponential(1)} of their range apart, at most ${tolerance.toExponential(1)} is rounding`;
  const { gapInFloat32 } = found;
  throw new NumericalError(
    gapInFloat32 === undefined
      ? `the pruned model differs from the masked original: its logits are ${gapText}. Nothing was written. ` +
          `Please report the model; ${WRITE_ANYWAY}`
      : `kernels of ONNX Runtime do not compute the written model precisely: its logits are ${gapText}, and ` +
          `${gapInFloat32.toExponential(1)} in float32. Nothing was written. ` +
          (request.roundsActivations
            ? 'Its products round activations to int8; with "accuracyLevel: 0" (quantize and prune) they stay in float32, more slowly; '
            : '') +
          WRITE_ANYWAY,
  );
}

const WRITE_ANYWAY = '"certify: false" writes it nevertheless';
