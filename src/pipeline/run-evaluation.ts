import type { ScoredRun } from '../evaluation/score-lines.js';
import { EVALUATE } from '../options/commands.js';
import { checkOptions, rowsOf } from '../options/option.js';
import type { Progress } from '../progress.js';
import type { Engine } from '../runtime/engine.js';
import type { Platform } from '../runtime/platform.js';
import { hashModel } from '../storage/hash-files.js';
import { requireTokenizer } from '../storage/load-tokenizer.js';
import type { ModelFolder } from '../storage/model-folder.js';
import { openScoreFile, type ScoreFile } from '../storage/score-file.js';
import { type EvaluatedModel, estimateEvaluation } from './estimate-cost.js';
import type { EvaluateRequest, Evaluation } from './evaluate-request.js';
import { type JobContext, withJob, withPart } from './job-context.js';
import { divergenceOf, type Measurement, perplexityOf, taskOf } from './measurements.js';
import { openLanguageModel } from './open-language-model.js';
import type { ExpectedStep } from './overall-progress.js';
import { readSources } from './read-sources.js';
import { countParameters } from './result-facts.js';
import { open } from './stage-open.js';
import { windowOptions } from './text-windows.js';

/** Measures models on texts and tasks, each model loaded once. */
export async function runEvaluation(platform: Platform, request: EvaluateRequest): Promise<Evaluation[]> {
  checkOptions(request, rowsOf(EVALUATE));
  const { models, embeddings, offline, bos, delimiter, reference: referenceName, resume } = request;
  const { texts, tasks } = await readSources(platform, request);
  if (resume !== undefined) await platform.files.checkFile(platform.files.resolve(resume));
  const engine = await platform.createEngine(request);
  return withJob(platform, request, async (context) => {
    const openModel = (model: string) => open.run(context, { model, embeddings, offline, bos });
    const reference = referenceName === undefined ? undefined : await openModel(referenceName);
    const folders: ModelFolder[] = [];
    for (const model of models) folders.push(await openModel(model));
    const plans: Plan[] = [];
    for (const [at, folder] of folders.entries()) {
      const tokenizer = await requireTokenizer(folder, 'an evaluation');
      const windows = await windowOptions(request, tokenizer, [...folders, ...(reference ? [reference] : [])]);
      const isReference = reference?.root === folder.root && reference.modelFile === folder.modelFile;
      const compared = referenceName === undefined || isReference ? [] : texts;
      const contextLength = await folder.longestWindow();
      const measurements = [
        ...texts.map((text) => perplexityOf(text, windows)),
        ...compared.map((text) => divergenceOf(text, windows, referenceName!)),
        ...tasks.map((task) => taskOf(task, { delimiter, bos: folder.bos }, contextLength)),
      ];
      plans.push({ model: models[at]!, folder, measurements });
    }
    const scores = resume === undefined ? undefined : await openScores(context, resume, { plans, reference });
    return measureAll(context, plans, { engine, reference, scores });
  });
}

/** Measurements to make on a model. */
interface Plan {
  readonly model: string;
  readonly folder: ModelFolder;
  readonly measurements: readonly Measurement[];
}

/** Opens the score file for all planned measurements. */
async function openScores(
  { platform, signal, onProgress }: JobContext,
  resume: string,
  { plans, reference }: { readonly plans: readonly Plan[]; readonly reference: ModelFolder | undefined },
): Promise<ScoreFile> {
  const referenceSha256 = reference && (await hashModel(reference, { signal, onProgress }));
  const runs: ScoredRun[] = [];
  for (const { model, folder, measurements } of plans) {
    const modelSha256 = await hashModel(folder, { signal, onProgress });
    for (const { kind, source, sourceSha256, protocol } of measurements) {
      const against = kind === 'divergence' ? { referenceSha256 } : {};
      runs.push({ model, source, kind, modelSha256, ...against, sourceSha256, protocol });
    }
  }
  return openScoreFile(platform.files, resume, runs);
}

interface Measuring {
  readonly engine: Engine;
  readonly reference: ModelFolder | undefined;
  readonly scores: ScoreFile | undefined;
}

/** Expected steps of planned measurements. */
async function estimatePlans(plans: readonly Plan[]): Promise<ExpectedStep[]> {
  const models: EvaluatedModel[] = [];
  for (const { folder, measurements } of plans) {
    const tokenizer = await requireTokenizer(folder, 'an evaluation');
    models.push({
      parameters: countParameters(await folder.load()),
      measurements: measurements.map(({ stage, work }) => ({ stage, ...work(tokenizer) })),
    });
  }
  return estimateEvaluation(models);
}

async function measureAll(
  context: JobContext,
  plans: readonly Plan[],
  { engine, reference: referenceFolder, scores }: Measuring,
): Promise<Evaluation[]> {
  const { onProgress, signal } = context;
  const openIn = async ({ onEnd }: JobContext, folder: ModelFolder) => {
    const model = await openLanguageModel(engine, folder, { signal });
    onEnd(() => model.release());
    return model;
  };
  context.expect(await estimatePlans(plans));
  const evaluations: Evaluation[] = [];
  const reference = referenceFolder && (await openIn(context, referenceFolder));
  let run = 0;
  for (const { model: name, folder, measurements } of plans) {
    const evaluation: Evaluation = { model: name, perplexity: [], divergence: [], tasks: [] };
    const tokenizer = await requireTokenizer(folder, 'an evaluation');
    await withPart(context, async (part) => {
      onProgress?.({ stage: 'load', done: 0, total: 1, detail: name });
      const model = await openIn(part, folder);
      for (const measurement of measurements) {
        const at = run++;
        const listener = onProgress && ((step: Progress) => onProgress({ detail: measurement.source, ...step }));
        const logOf = <T extends { readonly index: number }>() => scores?.logOf<T>(at);
        const measuring = { engine, model, tokenizer, reference, logOf, onProgress: listener, signal };
        await measurement.measure(measuring, evaluation);
      }
      await folder.checkUnchanged();
    });
    evaluations.push(evaluation);
  }
  return evaluations;
}
