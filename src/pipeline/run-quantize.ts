import { QUANTIZE } from '../options/commands.js';
import type { FolderOptions } from '../options/folder.js';
import { checkOptions, rowsOf } from '../options/option.js';
import type { QuantisationOptions } from '../options/quantisation.js';
import type { RunOptions } from '../options/run.js';
import type { PruneReport } from '../report/report-schema.js';
import type { EngineChoice, Platform } from '../runtime/platform.js';
import type { SourceOptions } from '../storage/model-folder.js';
import { runPrune } from './run-prune.js';
import type { StagesOption } from './stages.js';
import type { JobVocabulary } from './trimmed-folder.js';

/** A model to write in other dtypes, without pruning. */
export interface QuantizeRequest
  extends Omit<FolderOptions, 'recipe' | 'statistics' | 'stopHealing'>,
    RunOptions,
    SourceOptions,
    EngineChoice,
    StagesOption {
  /** A dtype by transformers.js' name, or several. */
  readonly dtype: NonNullable<QuantisationOptions['dtype']>;
}

/** Pruning options that remove nothing and read no tokens. */
export const REMOVE_NOTHING = { sparsity: 0, method: 'magnitude' } as const;

/**
 * Writes a model folder in other dtypes: a pruning run that removes nothing. Half the calibration windows are
 * generated.
 * @param vocabulary selection of remaining tokens; default all
 */
export function runQuantize(
  platform: Platform,
  given: QuantizeRequest,
  vocabulary?: JobVocabulary,
): Promise<PruneReport> {
  const request = checkOptions(given, rowsOf(QUANTIZE));
  return runPrune(platform, { ...request, ...REMOVE_NOTHING }, vocabulary);
}
