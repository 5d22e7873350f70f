import type { ModelLayout } from '../architecture/layout.js';
import { sha256OfTokens } from '../calibration/sha256.js';
import { counted } from '../counted.js';
import { withoutOverlaps } from '../evaluation/find-overlap.js';
import type { OnnxModel } from '../onnx/onnx-model.js';
import { countHeldOut, healingCalibration } from '../options/healing.js';
import { refusal } from '../options/option.js';
import { type ResolvedCalibration, type ResolvedOptions, readsTokens } from '../options.js';
import { checkRun } from '../prune/check-run.js';
import type { HealingSource, PruneJob } from '../prune/job.js';
import { blockOfInputs, quantisedSource } from '../quantisation/coded-handle.js';
import { useOriginalWeights } from '../quantisation/use-original-weights.js';
import { linearWeightName } from '../removal/repair-linear.js';
import { type CalibrationSettings, calibrationSettings } from '../report/plain-settings.js';
import type { AnalysedModel } from '../runtime/analyse-model.js';
import type { Engine } from '../runtime/engine.js';
import { type ModelFolder, modelPaths, totalBytes } from '../storage/model-folder.js';
import { dropUnreadableWindows } from './drop-unreadable-windows.js';
import type { JobContext } from './job-context.js';
import type { CalibrationWindows } from './stage-calibrate.js';
import type { Stages } from './stages.js';
import { storeFactory } from './store-factory.js';

/** Inputs of job preparation. */
export interface JobRequest {
  readonly stages: Pick<Stages, 'load' | 'analyse' | 'calibrate'>;
  readonly folder: ModelFolder;
  /** A float model whose weights replace the dequantised ones. */
  readonly floats?: ModelFolder | undefined;
  readonly options: ResolvedOptions;
  /** Absent for runs from statistics. */
  readonly calibration: ResolvedCalibration | undefined;
  /** Calibration of the windows for healing, if requested. */
  readonly healingAs?: ResolvedCalibration | undefined;
  readonly stopHealing?: boolean | undefined;
  /** Tokens of evaluation texts, which healing must not contain. */
  readonly evaluated?: readonly Int32Array[] | undefined;
  /** Whether FFN widths remain multiples of the block size of the quantised model. Default false. */
  readonly keepsBlocks?: boolean;
  /** Whether windows are needed even if pruning reads none. Default false. */
  readonly readsTokens?: boolean;
  readonly engine: Engine;
  /** Sparsities of the results: impossible budgets are refused before calibration. */
  readonly sparsities?: readonly number[];
  /** Called after the analysis, before calibration. */
  readonly onAnalysed?: ((analysed: AnalysedModel) => Promise<void>) | undefined;
  /** Called with the model after the analysis, before calibration. */
  readonly checkModel?: ((job: Omit<PruneJob, 'store'>) => Promise<void>) | undefined;
  /** Called with the bytes of the model's files after the analysis, before calibration. */
  readonly checkFreeSpace?: (denseBytes: number, analysed: AnalysedModel) => Promise<void>;
}

/** A loaded and analysed model with calibration windows. */
export interface PreparedJob {
  readonly job: Omit<PruneJob, 'store'>;
  /** Absent for methods that read no tokens. */
  readonly calibration: CalibrationWindows | undefined;
  /** Options that reproduce its windows. */
  readonly calibrationSettings?: CalibrationSettings | undefined;
}

/** Length of the hash prefix in names of windows. */
const NAME_LENGTH = 16;

/** Loads, analyses and calibrates. */
export async function prepareJob(context: JobContext, request: JobRequest): Promise<PreparedJob> {
  const { stages, folder, engine, sparsities = [] } = request;
  const loaded = await stages.load.run(context, folder);
  const model =
    request.floats === undefined
      ? loaded
      : useOriginalWeights(loaded, await stages.load.run(context, request.floats), request.floats.root);
  const analysed = await stages.analyse.run(context, { model, engine });
  await request.checkFreeSpace?.(await totalBytes(context.platform, modelPaths(folder, model)), analysed);
  await request.onAnalysed?.(analysed);
  const widthMultiple = request.keepsBlocks ? blockOfFfns(model, analysed.detected.layout) : 1;
  const options = widthMultiple > 1 ? { ...request.options, widthMultiple } : request.options;
  checkRun({ model, analysed, options }, sparsities, request.calibration !== undefined);
  const unmeasured = { model, analysed, engine, options, windows: [], createStore: storeFactory(context, 0) };
  await request.checkModel?.(unmeasured);
  const { detected } = analysed;
  const { hiddenSize, vocabularySize } = detected.layout;
  const written: Int32Array[] = [];
  const calibrate = async (calibration: ResolvedCalibration): Promise<CalibrationWindows> => {
    const calibrated = await stages.calibrate.run(context, {
      folder,
      model,
      engine,
      calibration,
      vocabularySize,
      written,
      seed: options.seed,
    });
    return {
      ...calibrated,
      windows: await dropUnreadableWindows(context, { folder, model, analysed, engine }, calibrated.windows),
    };
  };
  const calibration =
    request.calibration && (readsTokens(options) || request.readsTokens)
      ? await calibrate(request.calibration)
      : undefined;
  const windows = calibration?.windows ?? [];
  const healing = await calibrateHealing(context, request, calibrate);
  const windowLength = (windows[0] ?? healing?.windows[0])?.length ?? 0;
  const windowBytes = windowLength * hiddenSize * 4;
  const createStore = storeFactory(context, windowBytes);
  const journal = await journalOf(context, [...windows, ...(healing?.windows ?? []), ...(healing?.heldOut ?? [])]);
  const settings = calibration && calibrationSettings(request.calibration!, calibration.provenance);
  return {
    calibration,
    calibrationSettings: settings,
    job: { model, analysed, engine, windows, healing, options, createStore, journal },
  };
}

/** The journal with a scope for the windows, since measurements depend on them. */
export async function journalOf({ journal }: JobContext, windows: readonly Int32Array[]): Promise<PruneJob['journal']> {
  return journal?.within((await sha256OfTokens(windows)).slice(0, NAME_LENGTH));
}

async function calibrateHealing(
  { remarks }: JobContext,
  { options: { heal }, healingAs, stopHealing: stop, evaluated = [] }: JobRequest,
  calibrate: (calibration: ResolvedCalibration) => Promise<CalibrationWindows>,
): Promise<HealingSource | undefined> {
  if (heal === undefined || healingAs === undefined) return undefined;
  const calibrated = await calibrate(healingCalibration(healingAs, heal));
  // Generated text is not private.
  const isGenerated = heal.share === 1 && calibrated.windowsFile !== undefined;
  const windows = isGenerated ? calibrated.windows : withoutOverlaps(calibrated.windows, evaluated);
  const overlapCount = calibrated.windows.length - windows.length;
  const count = windows.length - countHeldOut(heal);
  if (overlapCount > 0 && count < 1)
    throw refusal(
      'heal.share',
      `cuts windows that are evaluated too: of ${calibrated.windows.length}, ${windows.length} do not overlap with the texts; give other text for healing or for evaluation`,
    );
  if (overlapCount > 0)
    remarks.push(
      `left out ${counted(overlapCount, 'window')} to heal on, since evaluated texts contain the same tokens`,
    );
  return { windows: windows.slice(0, count), heldOut: windows.slice(count), stop };
}

/** Largest block size along the inputs of FFNs' output projections; 1 without blocks, or if no FFN is as wide. */
function blockOfFfns(model: OnnxModel, { modules }: ModelLayout): number {
  const ffns = modules.filter(({ kind }) => kind === 'ffn');
  const blocks = ffns.map(({ output }) => {
    const { codes } = quantisedSource(model.weights.get(linearWeightName(model, output))) ?? {};
    return codes === undefined ? 1 : blockOfInputs(codes, output.inputAxis);
  });
  const largest = Math.max(1, ...blocks);
  return ffns.some(({ unitCount }) => unitCount >= largest) ? largest : 1;
}
