import { ModelFormatError } from '../errors.js';
import type { HeldOutWindows } from '../evaluation/held-out-windows.js';
import { withoutFront } from '../graph/join-embedding.js';
import { checkSameBase, type HealingReport, healModel, remarkHealing } from '../healing/heal-model.js';
import { keepTraining } from '../healing/keep-training.js';
import { copyModel, setWeight } from '../onnx/edit-weights.js';
import { HEAL } from '../options/commands.js';
import type { StatesPlace } from '../options/folder.js';
import { countHeldOut, type HealingOptions, healingCalibration, resolveHealing } from '../options/healing.js';
import { checkOptions, rowsOf } from '../options/option.js';
import type { ReadingOptions } from '../options/texts.js';
import { type CalibrationOptions, resolveCalibration } from '../options.js';
import type { EngineChoice, Platform } from '../platform/platform.js';
import type { JobControl } from '../progress.js';
import type { StageTiming } from '../prune/job.js';
import { refuseHealing } from '../prune/refine/heal.js';
import { pruneTwin } from '../removal/prune-no-past-branch.js';
import { checkShape } from '../report/check-report.js';
import { formatJson } from '../report/format-json.js';
import { CERTIFICATE, HEALING, QUALITY } from '../report/measurement-shapes.js';
import type { CertificateReport, QualityReport, SideFilesReport } from '../report/report-schema.js';
import { optional, text, withFields } from '../report/shape.js';
import type { UnderstoodModel } from '../runtime/analyse-model.js';
import type { Engine } from '../runtime/engine.js';
import type { ModelFolder, SourceOptions } from '../storage/model-folder.js';
import { readJsonFile } from '../storage/read-json.js';
import { withScratchWeights } from '../storage/scratch-weights.js';
import { writeText } from '../storage/write-file.js';
import { checkCalibrationFiles } from './check-places.js';
import { assumedSpeed, estimateHealing, expectedWindowLength, modelSize } from './estimate-cost.js';
import { holdWindowsOut } from './held-out.js';
import { type JobContext, withJob } from './job-context.js';
import { isFinished, mayBeKept, UNCHECKED, withJournal } from './kept-run.js';
import { leaveOutUnreadable } from './leave-out-unreadable.js';
import { createStoreIn, journalOf } from './prepare-job.js';
import { createQualityReference, type QualityReference } from './quality-reference.js';
import { refuseCoded } from './refuse-coded.js';
import { hashSaved, reportSideFiles } from './result-facts.js';
import { keyAt, runKey } from './run-key.js';
import { STAGES } from './stages.js';

/** A pruned model that is to be healed. */
export interface HealRequest extends JobControl, SourceOptions, ReadingOptions, EngineChoice {
  /** A folder in transformers.js or onnxruntime-genai layout, or an `.onnx` file: the model that was pruned. */
  readonly dense: string;
  /** The same of what became of it, in float32 or float16. */
  readonly pruned: string;
  /** Folder to be made. */
  readonly out: string;
  /** Replace `out` where it is empty, or holds nothing but what an earlier run wrote. Default false. */
  readonly force?: boolean | undefined;
  /** How it learns. */
  readonly heal?: HealingOptions | undefined;
  /** What the windows are made of; their number and shares are those of `heal`. */
  readonly calibration?: Omit<CalibrationOptions, 'windowCount'> | undefined;
  /** Compare what was written with the pruned model under its healed weights. Default true. */
  readonly certify?: boolean | undefined;
  /** Seeds the windows that the dense model writes. Default 0. */
  readonly seed?: number | undefined;
  /** Go on from what the same run kept in `<out>.partial` when it was cut off. Default true. */
  readonly resume?: boolean | undefined;
  /** Take the best weights that the same run had kept when it was cut off, and train no further. Default false. */
  readonly stopHealing?: boolean | undefined;
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
  /** How well the healed model predicts beside the dense one; absent where it could not be measured. */
  readonly quality?: QualityReport;
  /** What lay beside the pruned model; absent for a result that was there already. */
  readonly sideFiles?: SideFilesReport;
  readonly timings: readonly StageTiming[];
  readonly peakMemoryBytes?: number;
  readonly remarks: readonly string[];
}

/** Says how a folder was healed, in it. */
const HEALING_FILE = 'fang-prune-healing.json';

/** Open, load and analyse both; calibrate, heal, save, certify. */
export async function runHeal(platform: Platform, request: HealRequest): Promise<HealedFolder> {
  checkOptions(request, rowsOf(HEAL));
  const { dense, pruned, embeddings, offline, bos, out, force = false, resume = true, certify = true } = request;
  const { files } = platform;
  const settings = resolveHealing(request.heal ?? true)!;
  const calibration = healingCalibration(resolveCalibration(request.calibration), settings);
  return withJob(platform, request, async (whole) => {
    const folders = {
      dense: await STAGES.open.run(whole, { model: dense, embeddings, offline, bos }),
      pruned: await STAGES.open.run(whole, { model: pruned, embeddings, offline, bos }),
    };
    const check = async () => {
      for (const { root } of Object.values(folders)) await files.checkOutput({ output: out, source: root, force });
    };
    const mayGoOn = resume && (await mayBeKept(whole, out, [{ out }]));
    if (!mayGoOn) await check();
    await checkCalibrationFiles(files, calibration);
    const engine = await platform.createEngine(request);
    const { signal } = request;
    const key = await runKey(platform, request, {
      folders: [folders.dense, folders.pruned],
      engine,
      call: 'heal',
      signal,
      onProgress: whole.onProgress,
    });
    return withJournal(whole, { output: out, key, resume }, async (context, resuming) => {
      const isDone = (resuming || (resume && !force)) && (await isFinished(context, { out, sparsities: [] }));
      // Another run may have made it since.
      if (!isDone) await check();
      const making = { request, settings, calibration, folders, engine };
      const healed = isDone ? await readHealed(context, out) : await healFolder(context, making);
      const memory = platform.peakMemoryBytes();
      return {
        ...{ dense, pruned, out, ...healed },
        timings: context.timings,
        ...(memory !== undefined && { peakMemoryBytes: memory }),
        remarks: [
          ...context.remarks,
          ...remarkHealing(healed.healing),
          ...context.notes,
          ...(isDone && certify && healed.certificate === undefined ? [UNCHECKED] : []),
        ],
      };
    });
  });
}

/** What `HEALING_FILE` holds, and what lay beside the model. */
type HealedModel = Pick<HealedFolder, 'sha256' | 'healing' | 'certificate' | 'quality' | 'sideFiles'>;

const HEALED = withFields({
  sha256: text,
  healing: HEALING,
  certificate: optional(CERTIFICATE),
  quality: optional(QUALITY),
});

async function readHealed({ platform: { files } }: JobContext, out: string): Promise<HealedModel> {
  const file = files.resolve(out, HEALING_FILE);
  const found = await readJsonFile(files, file);
  if (found === undefined) throw new ModelFormatError(`${out} has lost its ${HEALING_FILE}. Heal it again with force.`);
  checkShape(found, HEALED, { file, remedy: 'Heal it again with force.' });
  return found as unknown as HealedModel;
}

interface Healing {
  readonly request: HealRequest;
  readonly settings: NonNullable<ReturnType<typeof resolveHealing>>;
  readonly calibration: ReturnType<typeof healingCalibration>;
  readonly folders: { readonly dense: ModelFolder; readonly pruned: ModelFolder };
  readonly engine: Engine;
}

/** Load and analyse both; calibrate, heal, save, certify. */
async function healFolder(
  context: JobContext,
  { request, settings, calibration, folders, engine }: Healing,
): Promise<HealedModel> {
  const { platform, timed, onProgress, signal } = context;
  const understand = async (place: ModelFolder) => {
    const model = await STAGES.load.run(context, place);
    return { model, analysed: await STAGES.analyse.run(context, { model, engine }) };
  };
  const [teacher, student] = [await understand(folders.dense), await understand(folders.pruned)];
  refuseCoded(request.dense, teacher.model, 'healing trains floats; give the float model that it was made of');
  refuseCoded(
    request.pruned,
    student.model,
    'prune and heal the float model that it was made of, and quantise the result',
  );
  await checkSameBase(teacher, student);
  refuseHealing(student);
  const { positionCount, detected } = teacher.analysed;
  context.expect(
    estimateHealing({
      settings,
      size: modelSize(teacher.analysed),
      windowLength: expectedWindowLength(calibration, folders.dense, teacher.analysed),
      certifies: request.certify !== false,
      speed: assumedSpeed(engine, platform.coreCount),
    }),
  );
  const made = await STAGES.calibrate.run(context, {
    ...{ folder: folders.dense, model: teacher.model, engine, calibration, positionCount, seed: request.seed ?? 0 },
    vocabularySize: detected.layout.vocabularySize,
  });
  const windows = await leaveOutUnreadable(context, { folder: folders.dense, ...teacher, engine }, made.windows);
  const count = windows.length - countHeldOut(settings);
  const createStore = createStoreIn(context, { place: request.hiddenStates, windowBytes: 1 });
  const journal = await journalOf(context, windows);
  return withScratchWeights(platform, async (store) => {
    const healed = await timed('heal', async () =>
      healModel({
        ...{ engine, teacher, student, settings, store, signal },
        ...(await keepTraining(journal)),
        stop: request.stopHealing,
        windows: windows.slice(0, count),
        heldOut: windows.slice(count),
        createStore: (byteLength) => createStore(byteLength / 2, 2),
        onProgress: onProgress && ((done, total, detail) => onProgress({ stage: 'heal', done, total, detail })),
      }),
    );
    const { out, force = false, certify: certifies = true } = request;
    const heldOut = holdWindowsOut(context, { ...teacher, folder: folders.dense, windows, source: calibration.source });
    const createQualityStore = (windowCount: number, windowBytes: number) =>
      createStoreIn(context, { place: request.hiddenStates, windowBytes })(windowCount);
    const reference = createQualityReference(context, {
      ...{ engine, folder: folders.dense, analysed: teacher.analysed, heldOut },
      createStore: createQualityStore,
    });
    const given = { ...healed, ...student, engine, folder: folders.pruned, out, force, certifies, heldOut, reference };
    const written = await writeHealed(context, given);
    await folders.dense.checkUnchanged();
    return written;
  });
}

interface Healed extends Awaited<ReturnType<typeof healModel>> {
  /** The pruned model as it was. */
  readonly model: UnderstoodModel['model'];
  readonly analysed: UnderstoodModel['analysed'];
  readonly engine: Engine;
  readonly folder: ModelFolder;
  readonly out: string;
  readonly force: boolean;
  readonly certifies: boolean;
  readonly heldOut: () => Promise<HeldOutWindows>;
  readonly reference: QualityReference;
}

async function writeHealed(
  context: JobContext,
  { model, analysed, changed, report, engine, folder, out, force, certifies, heldOut, reference }: Healed,
): Promise<HealedModel> {
  const change = { modules: [], changed };
  const healed = copyModel(model);
  for (const [name, handle] of changed) setWeight(healed, name, handle);
  const whole = await pruneTwin(withoutFront(healed), change, engine);
  const { platform, run, workspace } = context;
  const { files } = platform;
  const output = {
    output: out,
    source: folder.root,
    force,
    workspace,
    run: report.stopped ? undefined : keyAt(platform, run, []),
  };
  return files.buildFolder(output, async (partial) => {
    const saved = await STAGES.save.run(context, { model: whole, source: folder, documents: {}, folder: partial });
    const certificate = certifies
      ? await STAGES.certify.run(context, { model, analysed, engine, heldOut, folder, written: partial, change })
      : undefined;
    const sha256 = await hashSaved(context, partial, saved);
    const quality = await STAGES.quality.run(context, { engine, folder, reference, written: partial });
    const made = { sha256, healing: report, ...(certificate && { certificate }), ...(quality && { quality }) };
    await writeText(files, files.resolve(partial, HEALING_FILE), formatJson(made));
    await folder.checkUnchanged();
    return { ...made, sideFiles: reportSideFiles(saved) };
  });
}
