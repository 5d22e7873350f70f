import { sha256 } from '../calibration/sha256.js';
import { OptionError } from '../errors.js';
import type { LanguageModel } from '../evaluation/language-model.js';
import type { ScoredRun } from '../evaluation/score-lines.js';
import type { JobControl } from '../progress.js';
import type { Engine } from '../runtime/engine.js';
import { hashModel } from './hash-model.js';
import { runIsolated } from './isolate.js';
import { requireTokenizer } from './load-tokenizer.js';
import {
  divergenceOf,
  type Measured,
  type Measurement,
  type NamedText,
  perplexityOf,
  type TaskEncoding,
  taskOf,
} from './measurements.js';
import { contextLength, type EmbeddingsOption, type ModelFolder, openModelFolder } from './model-folder.js';
import { createNodeEngine, type EngineChoice } from './node-engine.js';
import { openLanguageModel } from './open-language-model.js';
import { readText } from './read-text.js';
import { openScoreFile, type ScoreFile } from './score-file.js';
import { readTaskFile, type TaskFile } from './task-file.js';
import type { TextWindows } from './text-windows.js';

/** What to measure on which models. */
export interface EvaluateRequest extends TextWindows, TaskEncoding, JobControl, EmbeddingsOption, EngineChoice {
  /** Folders in transformers.js or onnxruntime-genai layout, or `.onnx` files. */
  readonly models: readonly string[];
  /** Text files to measure perplexity on. */
  readonly texts?: readonly string[] | undefined;
  /** A model from which the others' divergence is measured on the texts. */
  readonly reference?: string | undefined;
  /** Task files, JSONL. */
  readonly tasks?: readonly string[] | undefined;
  /** Items of each task to measure, from the first. Default all. */
  readonly limit?: number | undefined;
  /**
   * File that keeps every score as it comes. The same request with the same file goes on where the last one stopped and
   * ends with the figures of one run; a file of other models, texts, tasks or settings is refused. `limit` and
   * `windowCount` may grow.
   */
  readonly resume?: string | undefined;
}

/** What was measured on one model. */
export interface Evaluation extends Measured {
  readonly model: string;
}

/**
 * Measures models on texts and tasks, each model loaded once.
 *
 * @returns In the order of the models.
 * @throws OptionError for a malformed task line, naming file and line, a text too short, a missing tokenizer, or a file of
 * other scores; ModelFormatError, UnsupportedModelError, EngineError, NumericalError.
 */
export async function evaluateModels(request: EvaluateRequest): Promise<Evaluation[]> {
  if (request.isolate) return runIsolated('evaluateModels', request);
  const sources = await readSources(request);
  const engine = await createNodeEngine(request);
  const folders: ModelFolder[] = [];
  const open = async (path: string) => {
    const folder = await openModelFolder(path, { embeddings: request.embeddings });
    folders.push(folder);
    return folder;
  };
  try {
    const reference = request.reference === undefined ? undefined : await open(request.reference);
    const plans: Plan[] = [];
    for (const model of request.models) {
      const folder = await open(model);
      plans.push({ model, folder, measurements: planMeasurements(request, sources, { folder, reference }) });
    }
    const scores = request.resume === undefined ? undefined : await openScores(request, plans, reference);
    return await measureAll({ engine, reference, scores }, plans, request);
  } finally {
    await Promise.all(folders.map((folder) => folder.close()));
  }
}

interface Sources {
  readonly texts: readonly NamedText[];
  readonly tasks: readonly TaskFile[];
}

/** What is measured on a model. */
interface Plan {
  readonly model: string;
  readonly folder: ModelFolder;
  readonly measurements: readonly Measurement[];
}

async function readSources({ models, texts = [], tasks = [], reference, limit }: EvaluateRequest): Promise<Sources> {
  if (models.length === 0) throw new OptionError('there is no model to evaluate; name at least one');
  if (reference !== undefined && texts.length === 0) {
    throw new OptionError('a reference was given, but no text to compare with it on');
  }
  const named: NamedText[] = [];
  for (const name of texts) {
    const text = await readText(name);
    named.push({ name, text, sha256: await sha256(text) });
  }
  const files: TaskFile[] = [];
  for (const file of tasks) files.push(await readTaskFile(file, limit));
  return { texts: named, tasks: files };
}

function planMeasurements(
  request: EvaluateRequest,
  { texts, tasks }: Sources,
  { folder, reference }: { readonly folder: ModelFolder; readonly reference: ModelFolder | undefined },
): Measurement[] {
  const { windowLength, stride, windowCount, bos, delimiter } = request;
  const windows: TextWindows = { windowLength, stride, windowCount, bos };
  const isReference = reference?.root === folder.root && reference.modelFile === folder.modelFile;
  const compared = reference === undefined || isReference ? [] : texts;
  return [
    ...texts.map((text) => perplexityOf(text, windows)),
    ...compared.map((text) => divergenceOf(text, windows, request.reference!)),
    ...tasks.map((task) => taskOf(task, { delimiter, bos }, contextLength(folder))),
  ];
}

/** Opens the file of scores for everything that is planned. */
async function openScores(
  { resume, signal }: EvaluateRequest,
  plans: readonly Plan[],
  reference: ModelFolder | undefined,
): Promise<ScoreFile> {
  const referenceSha256 = reference && (await hashModel(reference, signal));
  const runs: ScoredRun[] = [];
  for (const { model, folder, measurements } of plans) {
    const modelSha256 = await hashModel(folder, signal);
    for (const { kind, source, sourceSha256, protocol } of measurements) {
      const against = kind === 'divergence' ? { referenceSha256 } : {};
      runs.push({ model, source, kind, modelSha256, ...against, sourceSha256, protocol });
    }
  }
  return openScoreFile(resume!, runs);
}

interface Measuring {
  readonly engine: Engine;
  readonly reference: ModelFolder | undefined;
  readonly scores: ScoreFile | undefined;
}

async function measureAll(
  { engine, reference: referenceFolder, scores }: Measuring,
  plans: readonly Plan[],
  { onProgress, signal }: JobControl,
): Promise<Evaluation[]> {
  const evaluations: Evaluation[] = [];
  const reference = referenceFolder && (await openLanguageModel(engine, referenceFolder));
  try {
    let run = 0;
    for (const { model: name, folder, measurements } of plans) {
      const evaluation: Evaluation = { model: name, perplexity: [], divergence: [], tasks: [] };
      const tokenizer = await requireTokenizer(folder, 'an evaluation');
      await withModel(engine, folder, async (model) => {
        for (const measurement of measurements) {
          const at = run++;
          await measurement.measure(
            {
              engine,
              model,
              tokenizer,
              reference,
              logOf: () => scores?.logOf(at),
              onProgress: onProgress && ((progress) => onProgress({ detail: measurement.source, ...progress })),
              signal,
            },
            evaluation,
          );
        }
      });
      evaluations.push(evaluation);
    }
    return evaluations;
  } finally {
    await reference?.release();
  }
}

async function withModel(
  engine: Engine,
  folder: ModelFolder,
  use: (model: LanguageModel) => Promise<void>,
): Promise<void> {
  const model = await openLanguageModel(engine, folder);
  try {
    await use(model);
  } finally {
    await model.release();
  }
}
