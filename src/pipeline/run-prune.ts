import { LADDER, PRUNE } from '../options/commands.js';
import { healingCalibration } from '../options/healing.js';
import { fractionOf } from '../options/kinds.js';
import { type Checked, checkOptions, rowsOf } from '../options/option.js';
import { learnsRounding } from '../options/quantisation.js';
import { type ResolvedRequest, resolveRequest } from '../options/request.js';
import type { ResolvedShrink } from '../options/shrink.js';
import { TEXT_EVALUATION } from '../options/texts.js';
import type { MeasuredModel } from '../prune/measure-dense/measure-dense.js';
import { remarkBudget } from '../prune/remark-budget.js';
import { remarkFewTokens } from '../prune/remark-few-tokens.js';
import { selectModules } from '../prune/select-modules.js';
import { buildLadder } from '../report/build-ladder.js';
import type { PruneReport } from '../report/report-schema.js';
import { readCheckpoint } from '../runtime/journal.js';
import type { Platform } from '../runtime/platform.js';
import { resolvePair } from '../storage/json-with-tensors.js';
import type { ModelFolder } from '../storage/model-folder.js';
import { readJsonFile } from '../storage/read-json.js';
import { readReport } from '../storage/read-report.js';
import { withScratchWeights } from '../storage/scratch-weights.js';
import { REPORT_NAME, resolveReportPath, writeReport } from '../storage/write-report.js';
import { checkCalibrationFiles, checkFreeSpace, checkOutputPaths } from './check-output-paths.js';
import { checkSizes, prepareSizes } from './choose-size.js';
import { compareTrimmed } from './compare-trimmed.js';
import { assumedSpeed, estimateCost, expectedWindowLength, modelSize } from './estimate-cost.js';
import { estimateScratch } from './estimate-resources.js';
import { deferHeldOutWindows } from './held-out.js';
import { type JobContext, withPart } from './job-context.js';
import { nameRungs, type Rung, rungFolder, rungRecipe, rungReportPath } from './ladder-rungs.js';
import { dtypeFolders, layoutOf } from './name-variants.js';
import { prepareJob } from './prepare-job.js';
import type { LadderRequest, PruneRequest } from './prune-request.js';
import { createQualityReference } from './quality-reference.js';
import {
  hasEarlierRun,
  isFinished,
  type OpenedModels,
  runResumable,
  type StartedJob,
  UNCHECKED,
  UNMEASURED,
} from './resumable-job.js';
import { keyAt } from './run-key.js';
import type { EvaluateInput } from './stage-evaluate.js';
import type { PruneInput } from './stage-prune-measured.js';
import { countTokens, type PreparedText, prepareTexts, tokensMeasured } from './text-evaluation.js';
import { type JobVocabulary, type TrimmedFolder, trimInMemory } from './trimmed-folder.js';
import {
  type ResultPaths,
  type ResultSource,
  replacedEntry,
  reportEntry,
  saysNoRecipe,
  targetOf,
  type WriteRequest,
  writeResult,
} from './write-result.js';

/** Prunes a model folder at one sparsity. @param vocabulary selection of remaining tokens; default all */
export async function runPrune(
  platform: Platform,
  given: PruneRequest,
  vocabulary?: JobVocabulary,
): Promise<PruneReport> {
  const request = checkOptions(given, rowsOf(PRUNE));
  const results = resultPaths(platform.files, { ...request, sparsity: [request.sparsity] }, false);
  const [report] = await pruneTo(platform, request, { results, vocabulary });
  return report!;
}

/** Prunes a model folder at several sparsities; the dense model is measured once. */
export async function runLadder(platform: Platform, given: LadderRequest): Promise<readonly PruneReport[]> {
  const request = checkOptions(given, rowsOf(LADDER));
  return pruneTo(platform, request, { results: resultPaths(platform.files, request, true), isLadder: true });
}

/** Paths of results by sparsity. @param isLadder whether each is named by its sparsity */
export function resultPaths(
  files: Platform['files'],
  request: LadderRequest,
  isLadder: boolean,
): readonly ResultPaths[] {
  const fractions = request.sparsity.map(fractionOf);
  const rungs = isLadder ? nameRungs(fractions) : fractions.map((sparsity) => ({ sparsity, name: '' }));
  return rungPlaces(files, request, { rungs, isNamed: isLadder });
}

/** Paths of results: those given, or, for several results, named by their rungs. */
export function rungPlaces(
  files: Platform['files'],
  { out, dryRun, recipe, report }: Pick<PruneRequest, 'out' | 'dryRun' | 'recipe' | 'report'>,
  { rungs, isNamed }: { readonly rungs: readonly Rung[]; readonly isNamed: boolean },
): readonly ResultPaths[] {
  const place = resolveReportPath(files, report);
  return rungs.map((rung) => {
    const folder = out === undefined || !isNamed ? out : rungFolder(out, rung);
    const recipePath = recipe === undefined || !isNamed ? recipe : rungRecipe(recipe, rung);
    return {
      sparsity: rung.sparsity,
      out: dryRun ? undefined : folder,
      report: isNamed ? rungReportPath(place, rung) : place,
      recipe: recipePath === undefined ? undefined : resolvePair(files, 'recipe', recipePath),
    };
  });
}

/** Targets of a run. */
export interface PruneTarget {
  readonly results: readonly ResultPaths[];
  /** Target sizes instead of sparsities. */
  readonly shrink?: ResolvedShrink | undefined;
  /** Selection of remaining tokens. Absent: all. */
  readonly vocabulary?: JobVocabulary | undefined;
  /** Whether each report lists all results. */
  readonly isLadder?: boolean;
}

/** Opens the model, makes the results that do not exist yet, and evaluates. */
export function pruneTo(
  platform: Platform,
  request: Checked<PruneRequest | LadderRequest>,
  { results, shrink, vocabulary, isLadder = false }: PruneTarget,
): Promise<readonly PruneReport[]> {
  const resolved = resolveRequest(request);
  const { options, quantisation, calibration } = resolved;
  const { model, embeddings, offline, bos, weightsFrom, statistics, evaluation, force = false } = request;
  const output = request.dryRun ? undefined : request.out;
  const sparsities = results.map(targetOf);
  const place = statistics === undefined ? undefined : resolvePair(platform.files, 'statistics', statistics);
  const findFinished = (context: JobContext, { folders: [folder] }: PruneModels) => {
    const [{ inside }] = dtypeFolders(layoutOf(folder, quantisation.layout), quantisation.dtypes);
    return readFinished(context, results, { ...request, inside });
  };
  return runResumable<PruneModels, Evaluated | undefined, Finished, readonly PruneReport[]>(platform, {
    call: 'prune',
    request,
    output,
    sparsities,
    async open(context, stages) {
      const original = await stages.open.run(context, { model, embeddings, offline, bos });
      const floats = weightsFrom && (await stages.open.run(context, { model: weightsFrom, offline }));
      const trimmed = vocabulary && (await trimInMemory(context, original, vocabulary));
      const folder = trimmed?.folder ?? original;
      return { place, original, trimmed, folders: floats ? [folder, floats] : [folder] };
    },
    hasEarlierRun: (context) => hasEarlierRun(context, [output ?? [], results.flatMap(({ out }) => out ?? [])].flat()),
    checkOutput: ({ folders: [folder] }, { resuming, found }) =>
      checkOutputPaths(
        folder,
        pathsAfter(results, found).filter((_, index) => !found?.reports.has(index)),
        { force, resuming, calibration: place === undefined ? calibration : undefined },
      ),
    async prepare(_, { original, folders: [folder] }) {
      if (options.heal) await checkCalibrationFiles(platform.files, healingCalibration(calibration, options.heal));
      if (typeof evaluation !== 'object') return undefined;
      const { prompts = [], newTokens = TEXT_EVALUATION.newTokens.default } = evaluation;
      const texts = await prepareTexts(evaluation, original);
      const resultTexts = folder === original ? texts : await prepareTexts(evaluation, folder);
      return { texts, resultTexts, samples: { prompts, newTokens } };
    },
    // The trimmed model does not depend on the text that its bits per byte are measured on.
    keyValues: (_, { trimmed }) => ({ ...request, ...(trimmed?.unseen && { unseen: trimmed.unseen }) }),
    find: findFinished,
    findReplaced: findFinished,
    async make(context, started) {
      const { stages, engine, opened, prepared: evaluated } = started;
      const finished = started.found?.reports ?? new Map();
      const places = pathsAfter(results, started.found);
      const resultsRequest = { ...resolved, request, results: places, finished, shrink, vocabulary };
      const completed =
        finished.size === results.length ? finished : await makeMissing(context, started, resultsRequest);
      let reports: readonly PruneReport[] = results.map((_, index) => completed.get(index)!);
      if (evaluated !== undefined)
        reports = await stages.evaluate.run(context, { ...evaluated, folder: opened.original, reports, engine });
      if (isLadder) {
        const ladder = buildLadder(reports);
        reports = reports.map((report) => ({ ...report, ladder }));
      }
      if (isLadder || evaluated !== undefined) await rewriteReports(platform, reports, { ...request, results });
      return reports;
    },
  });
}

/** Reports of existing results by index. */
type Reports = ReadonlyMap<number, PruneReport>;

/** Existing results of the same run. */
interface Finished {
  readonly reports: Reports;
  /** Results without a report or the requested recipe, which are written again. */
  readonly repeated: ReadonlySet<number>;
}

const pathsAfter = (results: readonly ResultPaths[], found: Finished | undefined): readonly ResultPaths[] =>
  results.map((places, index) => (found?.repeated.has(index) ? { ...places, isRepeated: true } : places));

type FinishedRequest = Pick<PruneRequest, 'model' | 'force' | 'certify' | 'evaluation'>;

/**
 * Reads reports of results of the same key, by index.
 * @param inside subfolder of the report in the result's folder, empty for the folder itself; `model` as given
 */
async function readFinished(
  context: JobContext,
  results: readonly ResultPaths[],
  { inside, model, force = false, certify = true, evaluation }: { readonly inside: string } & FinishedRequest,
): Promise<Finished> {
  const { platform, journal, run } = context;
  const { files } = platform;
  const found = new Map<number, PruneReport>();
  const repeated = new Set<number>();
  for (const [index, places] of results.entries()) {
    const { out, report: place } = places;
    if (out === undefined || !(await isFinished(context, out, [targetOf(places)]))) continue;
    // An older result has the same key.
    if (force && !(await journal?.has(replacedEntry(index)))) continue;
    const { folder, name } = place ?? { name: REPORT_NAME };
    const path = files.resolve(folder ?? out, folder ? '' : inside, `${name}.json`);
    // Unreadable results are written again.
    const written = await readReport(files, path).catch(() => undefined);
    // Another run may have replaced a report outside the folder.
    const isOwn =
      folder === undefined || (run !== undefined && written?.run === keyAt(platform, run, [targetOf(places)]));
    const report = (isOwn ? written : undefined) ?? (await readCheckpoint<PruneReport>(journal, reportEntry(index)));
    if (report === undefined) {
      if (place !== undefined || !(await isOwnRecipe(context, places))) continue;
      repeated.add(index);
      context.notes.push(`${out} existed without a report to return: it was written again`);
      continue;
    }
    // The recipe's path does not belong to the key, so the earlier run may have written none, or elsewhere.
    if (places.recipe !== undefined && !report.remarks.some(saysNoRecipe)) {
      if (!(await isOwnRecipe(context, places))) continue;
      if ((await files.kindOf(places.recipe.json)) === undefined) {
        repeated.add(index);
        context.notes.push(`${out} existed without its recipe: both were written again`);
        continue;
      }
    }
    // The folder may have been moved, and saved reports contain only names.
    const remarks = [
      ...report.remarks,
      ...(certify && report.certificate === undefined ? [UNCHECKED] : []),
      ...(evaluation !== false && report.quality === undefined ? [UNMEASURED] : []),
    ];
    found.set(index, { ...report, remarks, model, out: inside === '' ? out : files.resolve(out, inside) });
  }
  return { reports: found, repeated };
}

/** Whether a recipe does not exist yet, or is that of the same run. */
async function isOwnRecipe({ platform, run }: JobContext, places: ResultPaths): Promise<boolean> {
  const { files } = platform;
  const { recipe } = places;
  if (recipe === undefined || run === undefined || (await files.kindOf(recipe.json)) === undefined) return true;
  const saved = await readJsonFile(files, recipe.json).catch(() => undefined);
  return Object(saved).run === keyAt(platform, run, [targetOf(places)]);
}

interface PruneModels extends OpenedModels {
  /** The model, with a trimmed vocabulary if requested. */
  readonly folders: readonly [model: ModelFolder, ...floats: ModelFolder[]];
  readonly original: ModelFolder;
  readonly trimmed: TrimmedFolder | undefined;
}

/** Texts, and samples, that the dense model and the results are evaluated on. */
type Evaluated = Pick<Required<EvaluateInput>, 'texts' | 'samples'> & { readonly resultTexts: readonly PreparedText[] };

type Started = StartedJob<PruneModels, Evaluated | undefined, Finished>;

interface ResultsRequest extends ResolvedRequest {
  readonly request: PruneRequest | LadderRequest;
  readonly results: readonly ResultPaths[];
  readonly shrink: ResolvedShrink | undefined;
  readonly vocabulary: JobVocabulary | undefined;
  readonly finished: Reports;
}

/** Approximate number of drafts per size. */
export const DRAFTS_PER_SIZE = 6;

/** Loads, analyses, calibrates, measures the dense model once or loads its statistics; then makes each result. */
function makeMissing(context: JobContext, started: Started, resultsRequest: ResultsRequest): Promise<Reports> {
  const { stages, engine, opened, prepared: evaluated } = started;
  const { place, original, trimmed } = opened;
  const [folder, floats] = opened.folders;
  const { request, results, finished, shrink, quantisation, calibration } = resultsRequest;
  const options = { ...resultsRequest.options, onProgress: context.onProgress, ...(shrink && { sparsity: 0 }) };
  const { model, embeddings, weightsFrom, force = false, statistics, executionProvider, threads } = request;
  const { quoteText = true, certify: certifies = true, reportPaths = false, stopHealing } = request;
  const { dtypes: dtype, ...form } = quantisation;
  const { keepLanguages, vocabularySize, vocabulary: tokens } = resultsRequest.vocabulary ?? {};
  const runSettings = {
    statistics,
    embeddings,
    weightsFrom,
    executionProvider,
    threads,
    ...(request.bos === false && { bos: false }),
    ...(dtype.length > 0 && { dtype, ...form }),
    keepLanguages,
    vocabularySize,
    vocabulary: typeof tokens === 'object' ? 'a list' : tokens,
  };
  const open = results.filter((_, index) => !finished.has(index));
  const sizing = { stages, folder, quantisation };
  const isWritten = request.out !== undefined && request.dryRun !== true;
  /** Windows of the statistics that repairs read. */
  const repairWindowCount = request.calibration?.windowCount ?? 0;
  return withPart(context, async (part) => {
    const { job, ...seenFirst } = await prepareJob(part, {
      stages,
      folder,
      floats,
      options,
      engine,
      stopHealing,
      calibration: place === undefined ? calibration : undefined,
      healingAs: calibration,
      evaluated: evaluated?.resultTexts.flatMap(tokensMeasured),
      readsTokens: shrink !== undefined || learnsRounding(quantisation),
      keepsBlocks:
        request.widthMultiple === undefined && dtype.length === 0 && results.some((result) => targetOf(result) > 0),
      sparsities: open.map(({ sparsity }) => sparsity),
      checkModel: shrink && ((seen) => checkSizes(part, { ...sizing, shrink, job: seen })),
      async checkFreeSpace(denseBytes, analysed) {
        const windowLength = await expectedWindowLength(calibration, folder);
        const tokenCount = (place === undefined ? calibration.windowCount : repairWindowCount) * windowLength;
        const sparsity = Math.min(...open.map((result) => result.sparsity));
        const scratchBytes = estimateScratch({
          analysed,
          options,
          tokenCount,
          windowLength,
          modelBytes: denseBytes,
          sparsity,
          certifies: isWritten && certifies,
        });
        return checkFreeSpace(folder, open, { force, denseBytes, scratchBytes });
      },
      async onAnalysed(analysed) {
        const { prompts = [], newTokens = 0 } = evaluated?.samples ?? {};
        context.expect(
          estimateCost({
            options,
            quantisation,
            calibration,
            size: modelSize(analysed),
            windowLength: await expectedWindowLength(calibration, folder),
            resultCount: open.length,
            draftCount: shrink && DRAFTS_PER_SIZE,
            evaluated: {
              modelCount: 1 + results.length,
              tokenCount: countTokens(evaluated?.texts),
              newTokens: prompts.length * newTokens,
            },
            speed: assumedSpeed(engine, context.platform.coreCount),
            quotes: request.report !== false && quoteText && place === undefined,
            measuresQuality: isWritten && request.evaluation !== false,
            certifies: isWritten && certifies,
            repairWindowCount: place && repairWindowCount,
          }),
        );
      },
    });
    const vocabulary = trimmed && (await compareTrimmed(part, { original, trimmed, engine, request }));
    const seen: MeasuredSource =
      place !== undefined
        ? await stages.loadStatistics.run(part, { place, folder, job, repairWindowCount })
        : { ...seenFirst, measured: await stages.measureDense.run(part, { job }) };
    if (seen.measured !== undefined) part.onEnd(seen.measured.dispose);
    const windows = seen.calibration?.windows ?? job.windows;
    const { analysed, healing } = job;
    const heldOut = deferHeldOutWindows(part, {
      folder,
      analysed,
      windows: [...windows, ...(healing?.windows ?? []), ...(healing?.heldOut ?? [])],
      source: calibration.source,
    });
    const source = {
      ...seen,
      folder,
      heldOut,
      vocabulary,
      job: { ...job, windows },
      reference:
        request.evaluation === false ? undefined : createQualityReference(part, { engine, folder, analysed, heldOut }),
    };
    const choose = shrink && seen.measured && prepareSizes(part, { ...sizing, shrink, job }, seen.measured);
    const reports = new Map(finished);
    for (const [index, places] of results.entries()) {
      if (reports.has(index)) continue;
      const chosen = places.targetBytes === undefined ? undefined : await choose?.(places.targetBytes);
      const written = {
        stages,
        model,
        force,
        quoteText,
        reportPaths,
        certifies,
        runSettings,
        index,
        quantisation: chosen?.quantisation ?? quantisation,
        paths: { ...places, ...(chosen && { sparsity: chosen.sparsity }) },
        allocation: chosen?.allocation,
        size: chosen?.report,
      };
      reports.set(index, await withPart(part, (own) => makeResult(own, source, written)));
    }
    return reports;
  });
}

/** Measured dense model and shared inputs of results. */
interface MeasuredSource extends Pick<ResultSource, 'calibration' | 'calibrationSettings' | 'statistics'> {
  readonly measured: MeasuredModel | undefined;
}

/** Prunes, saves, certifies and reports. Changed weights are in scratch space until they are saved. */
function makeResult(
  context: JobContext,
  { measured, ...source }: Omit<ResultSource, 'store'> & MeasuredSource,
  { allocation, ...written }: WriteRequest & Pick<PruneInput, 'allocation'>,
): Promise<PruneReport> {
  const { stages, paths, index } = written;
  const { sparsity } = paths;
  return withScratchWeights(context.platform, async (store) => {
    const input = { job: source.job, measured, sparsity, allocation, store, index };
    const outcome = await stages.pruneMeasured.run(context, input);
    context.timings.push(...outcome.timings);
    const modules = measured?.modules ?? selectModules(source.job).modules;
    const budget =
      paths.targetBytes === undefined ? remarkBudget(source.job.options, modules, { sparsity, outcome }) : [];
    context.remarks.push(...remarkFewTokens(source.job, outcome), ...budget, ...outcome.remarks);
    return writeResult(context, { ...source, store }, outcome, written);
  });
}

/** Writes reports with additions again. */
async function rewriteReports(
  { files }: Platform,
  reports: readonly PruneReport[],
  {
    results,
    reportPaths: paths,
  }: Pick<PruneRequest, 'reportPaths'> & { readonly results: readonly Pick<ResultPaths, 'report'>[] },
): Promise<void> {
  for (const [at, { report: place }] of results.entries()) {
    const report = reports[at]!;
    const folder = place?.folder ?? (report.out && files.resolve(report.out));
    if (place !== undefined && folder !== undefined)
      await writeReport(files, report, { folder, name: place.name, paths });
  }
}
