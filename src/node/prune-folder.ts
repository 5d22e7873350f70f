import { stat, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { OptionError } from '../errors.js';
import type { SinkFolder } from '../onnx/byte-source.js';
import { isFloatType } from '../onnx/float-encoding.js';
import type { OnnxModel } from '../onnx/onnx-model.js';
import { saveModel } from '../onnx/save-model.js';
import {
  type CalibrationOptions,
  type PruneOptions,
  type ResolvedOptions,
  readsTokens,
  resolveCalibration,
  resolveOptions,
} from '../options.js';
import { type PruneOutcome, pruneModel, type StageTiming } from '../prune.js';
import { blockWidths, mendConfig, mendGenaiConfig } from '../removal/mend-config.js';
import { buildPruneReport } from '../report/prune-report.js';
import type { PruneReport } from '../report/report-schema.js';
import { type AnalysedModel, analyseModel } from '../runtime/analyse-model.js';
import { createMemoryStates, createSpilledStates, type HiddenStates } from '../runtime/hidden-states.js';
import { VERSION } from '../version.js';
import { calibrateFolder } from './calibrate-folder.js';
import { checkOutput } from './check-output.js';
import { writing } from './file-folder.js';
import { findTokenizer } from './load-tokenizer.js';
import { type ModelFolder, openModelFolder } from './model-folder.js';
import { createNodeEngine, type ExecutionProviderChoice } from './node-engine.js';
import type { JsonObject } from './read-json.js';
import { createSpillFile, type SpillFile } from './spill-file.js';
import { checkWindowsPlace, WINDOWS_FILE } from './windows-file.js';
import { type WriteModelOptions, writeModelFolder } from './write-model-folder.js';
import { describeEnvironment, resolveReportPlace, writeReport } from './write-report.js';

/** A pruning run over a model folder. */
export interface PruneRequest extends PruneOptions {
  /** A folder in transformers.js or onnxruntime-genai layout, or an `.onnx` file. */
  readonly model: string;
  /** Folder to be made; may be left out for a dry run. */
  readonly out?: string | undefined;
  /** Replace `out` if it exists. Default false. */
  readonly force?: boolean | undefined;
  /** Decide everything and report it, but write nothing. Default false. */
  readonly dryRun?: boolean | undefined;
  /** Default `cpu`. A list is in order of preference. */
  readonly executionProvider?: ExecutionProviderChoice | undefined;
  readonly calibration?: CalibrationOptions | undefined;
  /** Where hidden states wait between blocks. Default: in memory up to 256 MiB, else in a temporary file. */
  readonly hiddenStates?: 'memory' | 'spill' | undefined;
  /** Path of the report, ending in `.json`. Default: `fang-prune-report.json` in `out`; `false` writes none. */
  readonly report?: string | boolean | undefined;
  /** Quote calibration text in the report, to show what contexts are about. Default true. */
  readonly quoteText?: boolean | undefined;
}

/** Hidden states beyond this go to a temporary file: a laptop's browser and editor need memory too. */
const MEMORY_STATES_BYTES = 256 * 2 ** 20;

/**
 * Prunes a model folder and writes a smaller one of the same kind, with everything that lay beside the original.
 * Nothing appears under the final name before it is complete, and the original is never touched.
 *
 * @throws OptionError, ModelFormatError, UnsupportedModelError, NumericalError, EngineError; the signal's reason when aborted.
 * @example
 * await prune({ model: './model', out: './smaller', sparsity: 0.3, method: 'flap' });
 */
export async function prune(request: PruneRequest): Promise<PruneReport> {
  const options = resolveOptions(request);
  const calibrationOptions = resolveCalibration(request.calibration, options.calibrationDefaults);
  if (request.out === undefined && !request.dryRun) {
    throw new OptionError('out is missing: name the folder to write, or ask for a dryRun');
  }
  if (request.hiddenStates !== undefined && !['memory', 'spill'].includes(request.hiddenStates)) {
    throw new OptionError(`hiddenStates is "${request.hiddenStates}"; expected memory or spill`);
  }
  const place = resolveReportPlace(request.report);
  const engine = await createNodeEngine(request.executionProvider);
  const folder = await openModelFolder(request.model);
  const spills: SpillFile[] = [];
  try {
    if (request.out !== undefined && !request.dryRun) {
      await checkOutput({ output: request.out, source: folder.root, force: request.force });
      const windowsFile = calibrationOptions.generate?.file;
      if (windowsFile !== undefined) await checkWindowsPlace(windowsFile, request.out);
    }
    const timings: StageTiming[] = [];
    const timed = async <T>(stage: string, action: () => Promise<T>): Promise<T> => {
      options.onProgress?.({ stage, done: 0, total: 1 });
      const start = performance.now();
      const result = await action();
      timings.push({ stage, ms: performance.now() - start });
      return result;
    };
    const model = await timed('load', () => folder.load());
    const analysed = await timed('analyse', () => analyseModel(model, engine, options.signal));
    const calibration = !readsTokens(options)
      ? undefined
      : await calibrateFolder({
          folder,
          model,
          engine,
          calibration: calibrationOptions,
          vocabularySize: analysed.detected.layout.vocabularySize,
          seed: options.seed,
          timed,
          onProgress: options.onProgress,
          signal: options.signal,
        });
    const spill = async () => {
      const file = await createSpillFile();
      spills.push(file);
      return file;
    };
    const repairs = await spill();
    const windows = calibration?.windows ?? [];
    const windowBytes = (windows[0]?.length ?? 0) * analysed.detected.layout.hiddenSize * 4;
    const outcome = await pruneModel({
      model,
      analysed,
      engine,
      windows,
      options,
      store: (shape, bytes) => repairs.appendTensor(shape, bytes),
      async createStates(windowCount): Promise<HiddenStates> {
        const place = request.hiddenStates ?? (windowCount * windowBytes > MEMORY_STATES_BYTES ? 'spill' : 'memory');
        return place === 'memory' ? createMemoryStates() : createSpilledStates(await spill());
      },
    });
    const before = await storedBytes(folder, model);
    const tokenizer = request.quoteText === false ? undefined : await findTokenizer(folder);
    const report = (after: number): PruneReport =>
      buildPruneReport({
        version: VERSION,
        createdAt: new Date(),
        environment: describeEnvironment(request.executionProvider),
        model: request.model,
        out: request.dryRun ? undefined : request.out,
        options,
        layout: analysed.detected.layout,
        outcome: { ...outcome, remarks: [...(calibration?.remarks ?? []), ...outcome.remarks] },
        parametersAfter: countParameters(outcome.model),
        bytes: { before, after },
        calibration: calibration?.provenance,
        windows,
        decode: tokenizer && ((tokens) => tokenizer.decode(tokens)),
        timings: [...timings, ...outcome.timings],
        peakMemoryBytes: process.resourceUsage().maxRSS * 1024,
      });
    const startedAt = performance.now();
    let built: PruneReport | undefined;
    const after = await save(request, {
      folder,
      analysed,
      outcome,
      options,
      async complete(partial, { byteLength }) {
        timings.push({ stage: 'save', ms: performance.now() - startedAt });
        built = report(byteLength);
        const { windowsFile } = calibration ?? {};
        if (windowsFile !== undefined) await putText(join(partial, WINDOWS_FILE), windowsFile);
        if (place !== undefined && place.folder === undefined) await writeReport(built, partial, place.name);
      },
    });
    built ??= report(after);
    if (place?.folder !== undefined) await writeReport(built, place.folder, place.name);
    return built;
  } finally {
    await Promise.all(spills.map((file) => file.dispose()));
    await folder.close();
  }
}

interface FolderRun {
  readonly folder: ModelFolder;
  readonly analysed: AnalysedModel;
  readonly options: ResolvedOptions;
}

async function putText(target: string, text: string): Promise<void> {
  await writing(target, () => writeFile(target, text));
}

interface Saving extends FolderRun {
  readonly outcome: PruneOutcome;
  readonly complete: NonNullable<WriteModelOptions['complete']>;
}

/** Writes the result; a dry run only counts its bytes. */
async function save(request: PruneRequest, { folder, analysed, outcome, options, complete }: Saving): Promise<number> {
  const control = { onProgress: options.onProgress, signal: options.signal };
  if (request.dryRun || request.out === undefined) {
    const written = await saveModel(outcome.model, COUNTING_FOLDER, folder.modelFile, control);
    return written.byteLength;
  }
  const { out: output, force } = request;
  const documents = mendDocuments(folder, analysed, outcome);
  const written = await writeModelFolder(outcome.model, folder, { output, force, documents, complete, ...control });
  return written.byteLength;
}

/** Takes everything and keeps nothing: `saveModel` counts what it writes. */
const COUNTING_FOLDER: SinkFolder = {
  create: async () => ({ write: async () => undefined, close: async () => undefined }),
};

function mendDocuments(
  { documents, modelFile }: ModelFolder,
  { detected }: AnalysedModel,
  outcome: PruneOutcome,
): Record<string, JsonObject> {
  const kept = new Map(outcome.modules.map(({ module, keep }) => [module.index, keep]));
  const widths = blockWidths(detected.layout, kept);
  const externalFileCount = outcome.model.storage?.kind === 'external' ? 1 : 0;
  const config = documents['config.json'];
  const genai = documents['genai_config.json'];
  return {
    ...(config && { 'config.json': mendConfig(config, widths, { modelFile, externalFileCount }) }),
    ...(genai && { 'genai_config.json': mendGenaiConfig(genai, widths) }),
  };
}

/** Bytes of the model file and its external data. */
async function storedBytes({ root, modelFile }: ModelFolder, { storage }: OnnxModel): Promise<number> {
  const path = join(root, modelFile);
  const files = [path, ...(storage?.kind === 'external' ? storage.files.map((file) => join(dirname(path), file)) : [])];
  const sizes = await Promise.all(files.map(async (file) => (await stat(file)).size));
  return sizes.reduce((sum, size) => sum + size, 0);
}

/** Elements of all float weights. */
function countParameters({ weights }: OnnxModel): number {
  return [...weights.values()]
    .filter(({ dataType }) => isFloatType(dataType))
    .reduce((sum, { dims }) => sum + dims.reduce((product, dim) => product * dim, 1), 0);
}
