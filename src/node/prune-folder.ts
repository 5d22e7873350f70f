import { OptionError } from '../errors.js';
import {
  type CalibrationOptions,
  type PruneOptions,
  type ResolvedOptions,
  resolveCalibration,
  resolveOptions,
} from '../options.js';
import { partOfProgress } from '../progress.js';
import { type ObservedModel, observeModel, recallModel } from '../prune/observe-model.js';
import { pruneModel, pruneObserved } from '../prune.js';
import { storeInMemory } from '../removal/repair-linear.js';
import { buildLadder } from '../report/build-ladder.js';
import type { PruneReport } from '../report/report-schema.js';
import { checkOutput } from './check-output.js';
import { evaluateResults } from './evaluate-results.js';
import { runIsolated } from './isolate.js';
import { checkPairPlace, type PairPlace, resolvePair } from './json-with-tensors.js';
import { nameRungs, type Rung, rungFolder, rungRecipe, rungReportPlace } from './ladder-rungs.js';
import type { EmbeddingsOption, ModelFolder } from './model-folder.js';
import { createNodeEngine, type EngineChoice } from './node-engine.js';
import { type FolderJob, withPruneJob } from './open-prune-job.js';
import { withStatistics } from './recall-statistics.js';
import { prepareTexts, type TextEvaluation } from './text-evaluation.js';
import { checkWindowsPlace } from './windows-file.js';
import { withModelFolder } from './with-model-folder.js';
import { withTensorStore } from './with-tensor-store.js';
import { type ReportPlace, resolveReportPlace, rewriteReports } from './write-report.js';
import { type ResultRequest, writeResult } from './write-result.js';

/** A pruning run over a model folder. */
export interface PruneRequest extends PruneOptions, EmbeddingsOption, EngineChoice {
  /** A folder in transformers.js or onnxruntime-genai layout, or an `.onnx` file. */
  readonly model: string;
  /** Folder to be made; may be left out for a dry run. */
  readonly out?: string | undefined;
  /** Replace `out` if it exists. Default false. */
  readonly force?: boolean | undefined;
  /** Decide everything and report it, but write nothing. Default false. */
  readonly dryRun?: boolean | undefined;
  readonly calibration?: CalibrationOptions | undefined;
  /** Where hidden states wait between blocks. Default: in memory up to 256 MiB (those of all blocks up to 16), else in a temporary file. */
  readonly hiddenStates?: 'memory' | 'spill' | undefined;
  /** Path of the report, ending in `.json`. Default: `fang-prune-report.json` in `out`; `false` writes none. */
  readonly report?: string | boolean | undefined;
  /** Quote calibration text in the report, to show what contexts are about. Default true. */
  readonly quoteText?: boolean | undefined;
  /**
   * Open what was written and compare its logits with the masked original's; a run whose result computes something else
   * fails and leaves nothing. Default true.
   */
  readonly certify?: boolean | undefined;
  /**
   * Writes what was decided, for `applyRecipe`: a folder that gets `recipe.json` and `recipe.safetensors`, or the path of
   * such a `.json` file. Replaced only with `force`. Default: none is written.
   */
  readonly recipe?: string | undefined;
  /**
   * Texts that the dense and the pruned model are measured on when all is written; their perplexities go into the report.
   * What was written stays when this fails or is aborted. Default: none.
   */
  readonly evaluation?: TextEvaluation | undefined;
  /**
   * Statistics that `observe` wrote of this model: a folder with `statistics.json`, or the path of such a file. The model
   * is not run on calibration text then; `calibration` is theirs, and `grouping`, `weighting` and `seed` must be. Default:
   * the model is looked at.
   */
  readonly statistics?: string | undefined;
}

/** Several pruning runs over one model folder that differ in nothing but the sparsity. */
export interface LadderRequest extends Omit<PruneRequest, 'sparsity'> {
  /** Fractions of the selected prunable parameters to remove, each in [0, 1) and given once. */
  readonly sparsity: readonly number[];
  /**
   * Folder that gets one folder a rung, called after its sparsity in percent: `10`, `12.5`. It may exist and hold other
   * things. May be left out for a dry run.
   */
  readonly out?: string | undefined;
  /** Replace rungs that exist. Default false: the run does not start. Other things in `out` stay. */
  readonly force?: boolean | undefined;
  /** Path of the reports, ending in `.json`: `a.json` makes `a-10.json`, ... Default: in each rung; `false` writes none. */
  readonly report?: string | boolean | undefined;
}

/**
 * Prunes a model folder and writes a smaller one of the same kind, with everything that lay beside the original.
 * Nothing appears under the final name before it is complete, and the original is never touched.
 *
 * @throws OptionError, ModelFormatError, UnsupportedModelError, NumericalError, EngineError; the signal's reason when aborted.
 * @example
 * await prune({ model: './model', out: './smaller', sparsity: 0.3, method: 'flap' });
 */
export async function prune(request: PruneRequest): Promise<PruneReport> {
  if (request.isolate) return runIsolated('prune', request);
  const place = resolveReportPlace(request.report);
  const { sparsity, out } = request;
  const recipe = request.recipe === undefined ? undefined : resolvePair('recipe', request.recipe);
  const result = { sparsity, out: request.dryRun ? undefined : out, report: place, recipe };
  const reports = await pruneTo(request, [result]);
  if (request.evaluation !== undefined) await rewriteReports(reports, [result]);
  return reports[0]!;
}

/**
 * Prunes a model folder at several sparsities from one look at the dense model: calibration windows, contexts, gradients
 * and removal orders are shared. Each rung is the folder that `prune` would write, byte for byte but for its report, and
 * appears under its name when it is complete; when a rung fails, those before it stay. Times of shared stages stand in
 * every report, and when all rungs are done the table of the whole ladder.
 *
 * @returns the reports in the order of `sparsity`.
 * @throws OptionError, ModelFormatError, UnsupportedModelError, NumericalError, EngineError; the signal's reason when aborted.
 * @example
 * await pruneLadder({ model: './model', out: './ladder', sparsity: [0.1, 0.2, 0.3, 0.4] }); // ladder/10 ... ladder/40
 */
export async function pruneLadder(given: LadderRequest): Promise<readonly PruneReport[]> {
  if (given.isolate) return runIsolated('pruneLadder', given);
  const { sparsity, ...request } = given;
  const rungs = nameRungs(sparsity);
  const place = resolveReportPlace(request.report);
  const { out, dryRun } = request;
  const toResult = (rung: Rung): Result => ({
    sparsity: rung.sparsity,
    out: dryRun || out === undefined ? undefined : rungFolder(out, rung),
    report: rungReportPlace(place, rung),
    recipe: request.recipe === undefined ? undefined : resolvePair('recipe', rungRecipe(request.recipe, rung)),
  });
  const results = rungs.map(toResult);
  const pruned = await pruneTo(request, results);
  const ladder = buildLadder(pruned);
  const reports = pruned.map((report) => ({ ...report, ladder }));
  await rewriteReports(reports, results);
  return reports;
}

interface Result extends Pick<ResultRequest, 'sparsity' | 'out'> {
  readonly recipe: PairPlace | undefined;
  readonly report: ReportPlace | undefined;
}

/** Looks at the dense model once and writes a result for each sparsity. */
async function pruneTo(
  request: Omit<PruneRequest, 'sparsity'>,
  results: readonly Result[],
): Promise<readonly PruneReport[]> {
  const [options] = results.map(({ sparsity }) => resolveOptions({ ...request, sparsity }));
  const calibration = resolveCalibration(request.calibration, options!.calibrationDefaults);
  if (request.out === undefined && !request.dryRun) {
    throw new OptionError('out is missing: name the folder to write, or ask for a dryRun');
  }
  if (request.recipe !== undefined && options!.shots > 1) {
    throw new OptionError(`recipe cannot hold what ${options!.shots} shots do; leave it out, or use one shot`);
  }
  const statistics = resolveStatistics(request, options!);
  const { hiddenStates, executionProvider, engine, evaluation } = request;
  if (evaluation !== undefined && request.dryRun) {
    throw new OptionError('evaluation measures what was written, and a dryRun writes nothing; leave one of both out');
  }
  if (hiddenStates !== undefined && !['memory', 'spill'].includes(hiddenStates)) {
    throw new OptionError(`hiddenStates is "${hiddenStates}"; expected memory or spill`);
  }
  return withModelFolder(request.model, request, async (folder) => {
    for (const { out, recipe } of results) {
      if (recipe !== undefined) await checkPairPlace(recipe, { out, force: request.force });
      await checkPlaces(folder, out, { request, windowsFile: calibration.generate?.file });
    }
    const texts = evaluation && (await prepareTexts(evaluation, folder));
    const needed = statistics === undefined ? calibration : undefined;
    const sparsities = results.map(({ sparsity }) => sparsity);
    const job = { folder, options: options!, calibration: needed, executionProvider, engine, hiddenStates, sparsities };
    const reports = await withPruneJob(job, (opened) => {
      if (statistics !== undefined) return pruneRecalled(statistics, { opened, request, results });
      return (options!.shots > 1 ? pruneEach : pruneAlike)({ opened, request, results });
    });
    if (texts === undefined) return reports;
    const measuring = await createNodeEngine({ executionProvider, engine });
    const { onProgress, signal } = options!;
    return evaluateResults(reports, { engine: measuring, folder, texts, onProgress, signal });
  });
}

/** A model that stands ready, and what is to be made of it. */
interface Pruning {
  readonly opened: FolderJob;
  readonly request: Omit<PruneRequest, 'sparsity'>;
  readonly results: readonly Result[];
}

/** One look at the dense model serves all sparsities. */
async function pruneAlike(given: Pruning): Promise<readonly PruneReport[]> {
  const { opened, results } = given;
  return pruneFrom(await observeModel({ ...opened.job, store: storeInMemory }, results.length), given);
}

/** So do statistics that an earlier look left behind. */
function pruneRecalled(place: PairPlace, given: Pruning): Promise<readonly PruneReport[]> {
  return withStatistics(place, given.opened, async ({ opened, statistics }) => {
    const job = { ...opened.job, store: storeInMemory };
    return pruneFrom(await recallModel(job, statistics, given.results.length), { ...given, opened });
  });
}

/** Writes all results of one look, and is done with it. */
async function pruneFrom(
  observed: ObservedModel,
  { opened, request, results }: Pruning,
): Promise<readonly PruneReport[]> {
  try {
    const reports: PruneReport[] = [];
    for (const [index, result] of results.entries()) {
      const { sparsity } = result;
      const report = await withTensorStore(async (store) =>
        writeResult(opened, await pruneObserved(observed, { sparsity, store, index }), { ...request, ...result }),
      );
      reports.push(report);
    }
    return reports;
  } finally {
    await observed.dispose();
  }
}

/** Saved statistics that a run is to be made from. @throws OptionError where other options contradict them. */
function resolveStatistics(
  { statistics, calibration = {} }: Omit<PruneRequest, 'sparsity'>,
  { shots }: ResolvedOptions,
): PairPlace | undefined {
  if (statistics === undefined) return undefined;
  const given = Object.entries(calibration).find(([, value]) => value !== undefined);
  if (given !== undefined)
    throw new OptionError(
      `calibration.${given[0]} is of no use with statistics: they were taken on windows of their own`,
    );
  if (shots > 1) throw new OptionError(`statistics of the dense model tell nothing of ${shots} shots; use one shot`);
  return resolvePair('statistics', statistics);
}

/** Several shots look at the model that the shot before left, so that sparsities share only their calibration. */
async function pruneEach({ opened, request, results }: Pruning): Promise<readonly PruneReport[]> {
  const reports: PruneReport[] = [];
  for (const [index, { sparsity, ...result }] of results.entries()) {
    const { onProgress: listener } = opened.job.options;
    const onProgress = listener && partOfProgress(listener, index, results.length);
    const options = { ...opened.job.options, sparsity, onProgress };
    const report = await withTensorStore(async (store) =>
      writeResult(opened, await pruneModel({ ...opened.job, options, store }), { ...request, ...result, sparsity }),
    );
    reports.push(report);
  }
  return reports;
}

interface Places {
  readonly request: Pick<PruneRequest, 'force'>;
  readonly windowsFile: string | undefined;
}

/** Asks before hours of work whether the result can be written. @throws OptionError */
async function checkPlaces(
  { root }: ModelFolder,
  out: string | undefined,
  { request: { force }, windowsFile }: Places,
): Promise<void> {
  if (out === undefined) return;
  await checkOutput({ output: out, source: root, force });
  if (windowsFile !== undefined) await checkWindowsPlace(windowsFile, out);
}
