import { SHRINK } from '../options/commands.js';
import type { FolderOptions } from '../options/folder.js';
import type { HealOptions } from '../options/healing.js';
import { checkOptions, refusal, rowsOf } from '../options/option.js';
import type { RunOptions } from '../options/run.js';
import { type ResolvedShrink, resolveShrink, type ShrinkOptions } from '../options/shrink.js';
import type { EngineChoice, Platform } from '../platform/platform.js';
import type { PruneReport } from '../report/report-schema.js';
import { resolvePair } from '../storage/json-with-tensors.js';
import type { SourceOptions } from '../storage/model-folder.js';
import { resolveReportPlace } from '../storage/write-report.js';
import { rungFolder, rungRecipe, rungReportPlace } from './ladder-rungs.js';
import type { PruneRequest } from './prune-request.js';
import { pruneTo, rewriteReports } from './run-prune.js';
import type { StagesOption } from './stages.js';
import type { ResultPlaces } from './write-result.js';

/** A model that is to become so small. */
export interface ShrinkRequest
  extends Omit<
      FolderOptions,
      'dtype' | 'statistics' | 'weightsFrom' | 'rounding' | 'blockSize' | 'symmetric' | 'accuracyLevel'
    >,
    ShrinkOptions,
    HealOptions,
    RunOptions,
    SourceOptions,
    EngineChoice,
    StagesOption {
  /** Your text, `.txt` or `.jsonl`: the model is measured on it, and chosen by its last part. Default: a bundled text. */
  readonly text?: string | undefined;
}

/** A report for each size that was asked for, in their order. */
export type ShrinkReports = readonly [PruneReport, ...PruneReport[]];

/** Makes the best model of each size that was asked for: fewer units, fewer bits, or both, compared on held-out windows. */
export async function runShrink(platform: Platform, request: ShrinkRequest): Promise<ShrinkReports> {
  checkOptions(request, rowsOf(SHRINK));
  const shrink = resolveShrink(request);
  const { text, calibration, allow: _, dtypes: __, targetSize, targetMemory, contextLength: ___, ...given } = request;
  if (text !== undefined && calibration?.source !== undefined)
    throw refusal('text', 'and calibration.source name two texts; leave one of both out');
  if (request.heal && ![...shrink.allow].some((lever) => lever !== 'bits'))
    throw refusal('heal', 'has no effect where only bits are allowed; leave it out, or allow neurons or heads');
  const isSingle = !Array.isArray(targetSize ?? targetMemory);
  const results = placesOf(platform, request, { targets: shrink.targets, isSingle });
  const pruned: PruneRequest = {
    ...given,
    ...(text !== undefined && { calibration: { ...calibration, source: { file: text } } }),
    ...(text === undefined && calibration !== undefined && { calibration }),
    ...runOf(shrink),
  };
  const reports = await pruneTo(platform, pruned, {
    results,
    shrink,
    async finish(made) {
      if (typeof request.evaluation === 'object') await rewriteReports(platform, made, { ...request, results });
      return made;
    },
  });
  return reports as readonly PruneReport[] as ShrinkReports;
}

/** Where results go: an only one to what was named, several to folders called by their sizes. */
function placesOf(
  { files }: Platform,
  { out, dryRun, recipe, report }: ShrinkRequest,
  { targets, isSingle }: Pick<ResolvedShrink, 'targets'> & { readonly isSingle: boolean },
): readonly ResultPlaces[] {
  const place = resolveReportPlace(files, report);
  return targets.map(({ bytes, name }): ResultPlaces => {
    const rung = { sparsity: 0, name };
    const folder = out === undefined || isSingle ? out : rungFolder(out, rung);
    const decided = recipe === undefined || isSingle ? recipe : rungRecipe(recipe, rung);
    return {
      ...{ sparsity: 0, targetBytes: bytes, out: dryRun ? undefined : folder },
      report: isSingle ? place : rungReportPlace(place, rung),
      recipe: decided === undefined ? undefined : resolvePair(files, 'recipe', decided),
    };
  });
}

/** What is measured whatever the size; the budget that is named here is none of a result's. */
function runOf({ allow, dtypes, contextLength }: ResolvedShrink): Pick<PruneRequest, 'sparsity' | 'method' | 'dtype'> {
  const [fewest] = dtypes.slice(-1);
  const prunes = [...allow].some((lever) => lever !== 'bits');
  const decides = { allow: [...allow].sort(), dtypes, contextLength };
  return {
    ...decides,
    ...(prunes ? { sparsity: 0.5 } : { sparsity: 0, method: 'magnitude' }),
    ...(fewest !== undefined && { dtype: fewest }),
  };
}
