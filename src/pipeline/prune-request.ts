import type { FolderOptions } from '../options/folder.js';
import type { Fraction, PruneOptions } from '../options.js';
import type { EngineChoice } from '../runtime/platform.js';
import type { SourceOptions } from '../storage/model-folder.js';
import type { StagesOption } from './stages.js';

/** A pruning run over a model folder. */
export interface PruneRequest extends PruneOptions, FolderOptions, SourceOptions, EngineChoice, StagesOption {}

/** Several pruning runs of one model folder that differ only in sparsity. */
export interface LadderRequest extends Omit<PruneRequest, 'sparsity'> {
  /** Fractions of the selected prunable parameters to remove, each as 0.3 or '30%', without repetition. */
  readonly sparsity: readonly Fraction[];
  /**
   * Folder for one folder per rung, named by its sparsity in percent: `10`, `12.5`. It may exist and contain other
   * files. Optional for a dry run.
   */
  readonly out?: string | undefined;
  /** Replace existing rungs. Default false: the run does not start. Other files in `out` remain. */
  readonly force?: boolean | undefined;
  /** Path of the reports, ending in `.json`: `a.json` makes `a-10.json`, ... Default: in each rung's folder; `false` writes none. */
  readonly report?: string | boolean | undefined;
}
