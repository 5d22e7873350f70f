import { LADDER, PRUNE } from '../options/commands.js';
import type { FolderOptions } from '../options/folder.js';
import { checkOptions, rowsOf } from '../options/option.js';
import { resolveRequest } from '../options/request.js';
import type { PruneOptions } from '../options.js';
import { partOfProgress } from '../progress.js';
import { type ObservedModel, observeModel, recallModel } from '../prune/observe-model.js';
import { pruneModel, pruneObserved } from '../prune.js';
import { storeInMemory } from '../removal/repair-linear.js';
import { buildLadder } from '../report/build-ladder.js';
import type { PruneReport } from '../report/report-schema.js';
import { checkOutput } from './check-output.js';
import { evaluateResults } from './evaluate-results.js';
import { checkPairPlace, type PairPlace, resolvePair } from './json-with-tensors.js';
import { nameRungs, type Rung, rungFolder, rungRecipe, rungReportPlace } from './ladder-rungs.js';
import type { EmbeddingsOption, ModelFolder } from './model-folder.js';
import { createNodeEngine, type EngineChoice } from './node-engine.js';
import { type FolderJob, withPruneJob } from './open-prune-job.js';
import { withStatistics } from './recall-statistics.js';
import { prepareTexts } from './text-evaluation.js';
import { checkWindowsPlace } from './windows-file.js';
import { withModelFolder } from './with-model-folder.js';
import { withTensorStore } from './with-tensor-store.js';
import { type ReportPlace, resolveReportPlace, rewriteReports } from './write-report.js';
import { type ResultRequest, writeResult } from './write-result.js';

/** A pruning run over a model folder. */
export interface PruneRequest extends PruneOptions, FolderOptions, EmbeddingsOption, EngineChoice {}

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
  checkOptions(request, rowsOf(PRUNE));
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
export async function pruneLadder(request: LadderRequest): Promise<readonly PruneReport[]> {
  checkOptions(request, rowsOf(LADDER));
  const rungs = nameRungs(request.sparsity);
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
  request: PruneRequest | LadderRequest,
  results: readonly Result[],
): Promise<readonly PruneReport[]> {
  const { options, calibration } = resolveRequest(request);
  const place = request.statistics === undefined ? undefined : resolvePair('statistics', request.statistics);
  const { hiddenStates, executionProvider, engine, evaluation } = request;
  return withModelFolder(request.model, request, async (folder) => {
    for (const { out, recipe } of results) {
      if (recipe !== undefined) await checkPairPlace(recipe, { out, force: request.force });
      await checkPlaces(folder, out, { request, windowsFile: calibration.generate?.file });
    }
    const texts = evaluation && (await prepareTexts(evaluation, folder));
    const needed = place === undefined ? calibration : undefined;
    const sparsities = results.map(({ sparsity }) => sparsity);
    const job = { folder, options, calibration: needed, executionProvider, engine, hiddenStates, sparsities };
    const reports = await withPruneJob(job, (opened) => {
      if (place !== undefined) return pruneRecalled(place, { opened, request, results });
      return (options.shots > 1 ? pruneEach : pruneAlike)({ opened, request, results });
    });
    if (texts === undefined) return reports;
    const measuring = await createNodeEngine({ executionProvider, engine });
    const { onProgress, signal } = options;
    return evaluateResults(reports, { engine: measuring, folder, texts, onProgress, signal });
  });
}

/** A model that stands ready, and what is to be made of it. */
interface Pruning {
  readonly opened: FolderJob;
  readonly request: PruneRequest | LadderRequest;
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
