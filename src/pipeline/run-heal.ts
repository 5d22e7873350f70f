import { ModelFormatError } from '../errors.js';
import type { HeldOutWindows } from '../evaluation/held-out-windows.js';
import { checkSameBase, type HealingReport, healModel, remarkHealing } from '../healing/heal-model.js';
import { checkpointTraining } from '../healing/training-checkpoint.js';
import { copyModel, setWeight } from '../onnx/edit-weights.js';
import { withoutEmbeddingPrefix } from '../onnx/join-embedding.js';
import { HEAL } from '../options/commands.js';
import {
  countHeldOut,
  type HealingOptions,
  healingCalibration,
  type ResolvedHealing,
  resolveHealing,
} from '../options/healing.js';
import { anyText, optional, withFields } from '../options/kinds.js';
import { type Checked, checkOptions, type OptionsOf, refusal, rowsOf } from '../options/option.js';
import type { HEAL_RESULT } from '../options/single-calls.js';
import type { ReadingOptions } from '../options/texts.js';
import { type CalibrationOptions, resolveCalibration } from '../options.js';
import type { JobControl } from '../progress.js';
import { refuseHealing } from '../prune/heal.js';
import { pruneNoPastBranch } from '../removal/prune-no-past-branch.js';
import { checkFields } from '../report/check-report.js';
import { formatJson } from '../report/format-json.js';
import { CERTIFICATE, HEALING, QUALITY } from '../report/measurement-kinds.js';
import type { CertificateReport, QualityReport, SideFilesReport } from '../report/report-schema.js';
import type { UnderstoodModel } from '../runtime/analyse-model.js';
import type { Engine } from '../runtime/engine.js';
import type { EngineChoice, Platform } from '../runtime/platform.js';
import { type ModelFolder, modelPaths, type SourceOptions, totalBytes } from '../storage/model-folder.js';
import { readJsonFile } from '../storage/read-json.js';
import { withScratchWeights } from '../storage/scratch-weights.js';
import { writeText } from '../storage/write-file.js';
import { checkCalibrationFiles } from './check-output-paths.js';
import { dropUnreadableWindows } from './drop-unreadable-windows.js';
import { assumedSpeed, estimateHealing, expectedWindowLength, modelSize } from './estimate-cost.js';
import { estimateHealingScratch } from './estimate-resources.js';
import { deferHeldOutWindows } from './held-out.js';
import type { JobContext } from './job-context.js';
import { journalOf } from './prepare-job.js';
import { createQualityReference, type QualityReference } from './quality-reference.js';
import { refuseCoded } from './refuse-coded.js';
import { hashSaved, reportSideFiles } from './result-facts.js';
import {
  buildOutput,
  figuresOf,
  isFinished,
  type RunFigures,
  runResumable,
  type StartedJob,
  UNCHECKED,
} from './resumable-job.js';
import { HEALING_FILE } from './stage-save.js';
import type { Stages, StagesOption } from './stages.js';
import { storeFactory } from './store-factory.js';

/** A pruned model to heal. */
export interface HealRequest
  extends JobControl,
    SourceOptions,
    ReadingOptions,
    EngineChoice,
    StagesOption,
    OptionsOf<typeof HEAL_RESULT> {
  /** A folder in transformers.js or onnxruntime-genai layout, or an `.onnx` file: the model that was pruned. */
  readonly dense: string;
  /** The pruned model, in float32 or float16. */
  readonly pruned: string;
  /** Training options. */
  readonly heal?: HealingOptions | undefined;
  /** Source of the windows; their number and shares are those of `heal`. */
  readonly calibration?: Omit<CalibrationOptions, 'windowCount'> | undefined;
  /** Seed of the generated windows. Default 0. */
  readonly seed?: number | undefined;
  /** Resume from the checkpoints of the same run in `<out>.partial`. Default true. */
  readonly resume?: boolean | undefined;
  /** Use the best weights of the checkpoint of the same run, and train no further. Default false. */
  readonly stopHealing?: boolean | undefined;
}

/** A written healed model. */
export interface HealedFolder extends RunFigures {
  readonly dense: string;
  readonly pruned: string;
  readonly out: string;
  /** SHA-256 of the written model file and its external data. */
  readonly sha256: string;
  readonly healing: HealingReport;
  readonly certificate?: CertificateReport;
  /** Quality of the healed model compared with the dense one; absent if it could not be measured. */
  readonly quality?: QualityReport;
  /** Files next to the pruned model; absent for an existing result. */
  readonly sideFiles?: SideFilesReport;
}

/** Opens, loads and analyses both models; calibrates, heals, saves and certifies. */
export function runHeal(platform: Platform, given: HealRequest): Promise<HealedFolder> {
  const request = checkOptions(given, rowsOf(HEAL));
  const { dense, pruned, embeddings, offline, bos, out, certify = true } = request;
  const { files } = platform;
  const settings = resolveHealing(request.heal ?? true)!;
  checkGeneration(request, settings);
  const calibration = healingCalibration(resolveCalibration(request.calibration), settings);
  return runResumable<HealedModels, void, HealedModel, HealedFolder>(platform, {
    call: 'heal',
    request,
    output: out,
    async open(context, stages) {
      const [first, second] = [
        await stages.open.run(context, { model: dense, embeddings, offline, bos }),
        await stages.open.run(context, { model: pruned, embeddings, offline, bos }),
      ];
      return { folders: [first, second] };
    },
    prepare: () => checkCalibrationFiles(files, calibration),
    find: async (context) => ((await isFinished(context, out)) ? readHealed(context, out) : undefined),
    async make(context, started) {
      const healed = started.found ?? (await healFolder(context, { request, settings, calibration, ...started }));
      context.remarks.push(...remarkHealing(healed.healing));
      const isUnchecked = started.found !== undefined && certify && healed.certificate === undefined;
      if (isUnchecked) context.notes.push(UNCHECKED);
      return { dense, pruned, out, ...healed, ...figuresOf(context) };
    },
  });
}

/** Refuses settings of generated windows that contradict the generated share. @throws OptionError */
function checkGeneration({ calibration: { generate } = {} }: Checked<HealRequest>, { share }: ResolvedHealing): void {
  if (generate === false ? share > 0 : share === 0 && Object.keys(generate ?? {}).length > 0)
    throw refusal('calibration.generate', `contradicts heal.share, which is ${share}; leave one of them out`);
}

interface HealedModels {
  readonly folders: readonly [dense: ModelFolder, pruned: ModelFolder];
}

/** Contents of `HEALING_FILE`, and the files next to the model. */
type HealedModel = Pick<HealedFolder, 'sha256' | 'healing' | 'certificate' | 'quality' | 'sideFiles'>;

const HEALED = withFields({
  sha256: anyText,
  healing: HEALING,
  certificate: optional(CERTIFICATE),
  quality: optional(QUALITY),
});

async function readHealed({ platform: { files } }: JobContext, out: string): Promise<HealedModel> {
  const file = files.resolve(out, HEALING_FILE);
  const found = await readJsonFile(files, file);
  if (found === undefined) throw new ModelFormatError(`${out} has lost its ${HEALING_FILE}. Heal it again with force.`);
  checkFields(found, HEALED, { file, remedy: 'Heal it again with force.' });
  return found as unknown as HealedModel;
}

interface Healing extends StartedJob<HealedModels, void, HealedModel> {
  readonly request: HealRequest;
  readonly settings: NonNullable<ReturnType<typeof resolveHealing>>;
  readonly calibration: ReturnType<typeof healingCalibration>;
}

/** Loads and analyses both models; calibrates, heals, saves and certifies. */
async function healFolder(
  context: JobContext,
  { request, settings, calibration, opened, engine, stages }: Healing,
): Promise<HealedModel> {
  const { platform, timed, onProgress, signal } = context;
  const [dense, pruned] = opened.folders;
  const loadAndAnalyse = async (place: ModelFolder) => {
    const model = await stages.load.run(context, place);
    return { model, analysed: await stages.analyse.run(context, { model, engine }) };
  };
  const [teacher, student] = [await loadAndAnalyse(dense), await loadAndAnalyse(pruned)];
  refuseCoded(request.dense, teacher.model, 'healing trains floats; give the float model that it was quantised from');
  refuseCoded(
    request.pruned,
    student.model,
    'prune and heal the float model that it was quantised from, and quantise the result',
  );
  await checkSameBase(teacher, student);
  refuseHealing(student);
  const { detected } = teacher.analysed;
  const windowLength = await expectedWindowLength(calibration, dense);
  const scratchBytes = estimateHealingScratch({ analysed: student.analysed, windowLength, sparsity: 0 }, settings);
  const prunedBytes = await totalBytes(platform, modelPaths(pruned, student.model));
  await platform.files.checkOutput({
    output: request.out,
    source: pruned.root,
    force: request.force ?? false,
    byteLength: Math.ceil(prunedBytes + scratchBytes),
  });
  context.expect(
    estimateHealing({
      settings,
      size: modelSize(teacher.analysed),
      windowLength,
      certifies: request.certify !== false,
      speed: assumedSpeed(engine, platform.coreCount),
    }),
  );
  const calibrated = await stages.calibrate.run(context, {
    folder: dense,
    model: teacher.model,
    engine,
    calibration,
    seed: request.seed ?? 0,
    vocabularySize: detected.layout.vocabularySize,
  });
  const windows = await dropUnreadableWindows(context, { folder: dense, ...teacher, engine }, calibrated.windows);
  const count = windows.length - countHeldOut(settings);
  const createStore = storeFactory(context, 1);
  const journal = await journalOf(context, windows);
  return withScratchWeights(platform, async (store) => {
    const healed = await timed('heal', async () =>
      healModel({
        engine,
        teacher,
        student,
        settings,
        store,
        signal,
        ...(await checkpointTraining(journal)),
        stop: request.stopHealing,
        windows: windows.slice(0, count),
        heldOut: windows.slice(count),
        createStore: (byteLength) => createStore(byteLength / 2, 2),
        onProgress: onProgress && ((done, total, detail) => onProgress({ stage: 'heal', done, total, detail })),
      }),
    );
    const { out, force = false, certify: certifies = true } = request;
    const heldOut = deferHeldOutWindows(context, { ...teacher, folder: dense, windows, source: calibration.source });
    const reference = createQualityReference(context, {
      engine,
      folder: dense,
      analysed: teacher.analysed,
      heldOut,
    });
    const { folders } = opened;
    const given = { ...healed, ...student, engine, stages, folders, out, force, certifies, heldOut, reference };
    return writeHealed(context, given);
  });
}

interface Healed extends Awaited<ReturnType<typeof healModel>> {
  /** The original pruned model. */
  readonly model: UnderstoodModel['model'];
  readonly analysed: UnderstoodModel['analysed'];
  readonly engine: Engine;
  readonly stages: Stages;
  readonly folders: HealedModels['folders'];
  readonly out: string;
  readonly force: boolean;
  readonly certifies: boolean;
  readonly heldOut: () => Promise<HeldOutWindows>;
  readonly reference: QualityReference;
}

async function writeHealed(
  context: JobContext,
  { model, analysed, changed, report, engine, stages, folders, out, force, certifies, heldOut, reference }: Healed,
): Promise<HealedModel> {
  const [, folder] = folders;
  const change = { modules: [], changed };
  const healed = copyModel(model);
  for (const [name, handle] of changed) setWeight(healed, name, handle);
  const completed = await pruneNoPastBranch(withoutEmbeddingPrefix(healed), change, engine);
  const { files } = context.platform;
  // Further training would give another result for this key.
  const output = { out, source: folder, force, ...(report.stopped && { run: undefined }) };
  return buildOutput(context, output, async (partial) => {
    const saved = await stages.save.run(context, { model: completed, source: folder, documents: {}, folder: partial });
    const certificate = certifies
      ? await stages.certify.run(context, { model, analysed, engine, heldOut, folder, written: partial, change })
      : undefined;
    const sha256 = await hashSaved(context, partial, saved);
    const quality = await stages.quality.run(context, { engine, folder, reference, written: partial });
    const contents = { sha256, healing: report, ...(certificate && { certificate }), ...(quality && { quality }) };
    await writeText(files, files.resolve(partial, HEALING_FILE), formatJson(contents));
    for (const source of folders) await source.checkUnchanged();
    return { ...contents, sideFiles: reportSideFiles(saved) };
  });
}
