import { withoutFront } from '../graph/join-embedding.js';
import { checkKinship, type HealingReport, healModel } from '../healing/heal-model.js';
import { copyModel, setWeight } from '../onnx/edit-weights.js';
import { HEAL } from '../options/commands.js';
import type { StatesPlace } from '../options/folder.js';
import { countHeldOut, type HealingOptions, healingCalibration, resolveHealing } from '../options/healing.js';
import { checkOptions, rowsOf } from '../options/option.js';
import { type CalibrationOptions, resolveCalibration } from '../options.js';
import type { EngineChoice, Platform } from '../platform/platform.js';
import type { JobControl } from '../progress.js';
import type { StageTiming } from '../prune/job.js';
import { pruneTwin } from '../removal/prune-twin.js';
import type { CertificateReport } from '../report/report-schema.js';
import type { EmbeddingsOption, ModelFolder } from '../storage/model-folder.js';
import { withScratchWeights } from '../storage/scratch-weights.js';
import { checkCalibrationFiles } from './check-places.js';
import { type JobContext, withJob } from './job-context.js';
import { createStoreIn } from './prepare-job.js';
import { hashSaved } from './result-facts.js';
import { STAGES } from './stages.js';

/** A pruned model that is to be healed. */
export interface HealRequest extends JobControl, EmbeddingsOption, EngineChoice {
  /** A folder in transformers.js or onnxruntime-genai layout, or an `.onnx` file: the model that was pruned. */
  readonly dense: string;
  /** The same of what became of it, in float32 or float16. */
  readonly pruned: string;
  /** Folder to be made. */
  readonly out: string;
  /** Replace `out` where it is empty, or holds nothing but what an earlier run wrote. Default false. */
  readonly force?: boolean | undefined;
  /** How it learns. */
  readonly settings?: HealingOptions | undefined;
  /** What the windows are made of; their number and shares are the settings'. */
  readonly calibration?: Omit<CalibrationOptions, 'windowCount'> | undefined;
  /** Compare what was written with the pruned model under its healed weights. Default true. */
  readonly certify?: boolean | undefined;
  /** Seeds the windows that the dense model writes. Default 0. */
  readonly seed?: number | undefined;
  /** Where hidden states, weights and moments wait. Default: in memory up to 16 MiB each, else in temporary files. */
  readonly hiddenStates?: StatesPlace | undefined;
}

/** A healed model that was written. */
export interface HealedFolder {
  readonly dense: string;
  readonly pruned: string;
  readonly out: string;
  /** SHA-256 of the model file and its external data, as they were written. */
  readonly sha256: string;
  readonly healing: HealingReport;
  readonly certificate?: CertificateReport;
  readonly timings: readonly StageTiming[];
  readonly peakMemoryBytes?: number;
  readonly remarks: readonly string[];
}

/** Open, load and analyse both; calibrate, heal, save, certify. */
export async function runHeal(platform: Platform, request: HealRequest): Promise<HealedFolder> {
  checkOptions(request, rowsOf(HEAL));
  const { out, force = false, certify: certifies = true } = request;
  const { files } = platform;
  const settings = resolveHealing(request.settings ?? true)!;
  const calibration = healingCalibration(resolveCalibration(request.calibration), settings);
  return withJob(platform, request, async (context) => {
    const { timed, timings, remarks, onProgress, signal } = context;
    const { embeddings } = request;
    const denseFolder = await STAGES.open.run(context, { model: request.dense, embeddings });
    const folder = await STAGES.open.run(context, { model: request.pruned, embeddings });
    for (const { root } of [denseFolder, folder]) await files.checkOutput({ output: out, source: root, force });
    await checkCalibrationFiles(files, calibration);
    const engine = await platform.createEngine(request);
    const understand = async (place: ModelFolder) => {
      const model = await STAGES.load.run(context, place);
      return { model, analysed: await STAGES.analyse.run(context, { model, engine }) };
    };
    const [teacher, student] = [await understand(denseFolder), await understand(folder)];
    checkKinship(teacher.analysed, student.analysed);
    const { positionCount, detected } = teacher.analysed;
    const { windows } = await STAGES.calibrate.run(context, {
      ...{ folder: denseFolder, model: teacher.model, engine, calibration, positionCount, seed: request.seed ?? 0 },
      vocabularySize: detected.layout.vocabularySize,
    });
    const count = windows.length - countHeldOut(settings);
    const createStore = createStoreIn(context, { place: request.hiddenStates, windowBytes: 1 });
    return withScratchWeights(platform, async (store) => {
      const healed = await timed('heal', () =>
        healModel({
          ...{ engine, teacher, student, settings, store, signal },
          windows: windows.slice(0, count),
          heldOut: windows.slice(count),
          createStore: (byteLength) => createStore(byteLength / 2, 2),
          onProgress: onProgress && ((done, total, detail) => onProgress({ stage: 'heal', done, total, detail })),
        }),
      );
      const written = await writeHealed(context, {
        ...healed,
        ...student,
        engine,
        folder,
        windows,
        out,
        force,
        certifies,
      });
      await denseFolder.checkUnchanged();
      const memory = platform.peakMemoryBytes();
      return {
        dense: request.dense,
        pruned: request.pruned,
        out,
        ...written,
        healing: healed.report,
        timings,
        ...(memory !== undefined && { peakMemoryBytes: memory }),
        remarks,
      };
    });
  });
}

interface Healed extends Pick<Awaited<ReturnType<typeof healModel>>, 'changed'> {
  /** The pruned model as it was. */
  readonly model: Parameters<typeof copyModel>[0];
  readonly analysed: Parameters<typeof checkKinship>[1];
  readonly engine: Awaited<ReturnType<Platform['createEngine']>>;
  readonly folder: ModelFolder;
  readonly windows: readonly Int32Array[];
  readonly out: string;
  readonly force: boolean;
  readonly certifies: boolean;
}

async function writeHealed(
  context: JobContext,
  { model, analysed, changed, engine, folder, windows, out, force, certifies }: Healed,
): Promise<Pick<HealedFolder, 'sha256' | 'certificate'>> {
  const change = { modules: [], changed };
  const healed = copyModel(model);
  for (const [name, handle] of changed) setWeight(healed, name, handle);
  const whole = await pruneTwin(withoutFront(healed), change, engine);
  const { files } = context.platform;
  return files.buildFolder({ output: out, source: folder.root, force }, async (partial) => {
    const saved = await STAGES.save.run(context, { model: whole, source: folder, documents: {}, folder: partial });
    const certificate = certifies
      ? await STAGES.certify.run(context, { model, analysed, engine, windows, folder, written: partial, change })
      : undefined;
    const sha256 = await hashSaved(context, partial, saved);
    await folder.checkUnchanged();
    return { sha256, ...(certificate && { certificate }) };
  });
}
