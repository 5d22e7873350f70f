import type { FolderOptions } from '../options/folder.js';
import type { Fraction, PruneOptions } from '../options.js';
import type { EngineChoice } from '../platform/platform.js';
import type { SourceOptions } from '../storage/model-folder.js';
import type { StagesOption } from './stages.js';

/** A pruning run over a model folder. */
export interface PruneRequest extends PruneOptions, FolderOptions, SourceOptions, EngineChoice, StagesOption {}

/** Several pruning runs over one model folder that differ in nothing but the sparsity. */
export interface LadderRequest extends Omit<PruneRequest, 'sparsity'> {
  /** Fractions of the selected prunable parameters to remove, each as 0.3 or '30%' and given once. */
  readonly sparsity: readonly Fraction[];
  /**
   * Folder that gets one folder a rung, called after its sparsity in percent: `10`, `12.5`. It may exist and hold other
   * things. May be left out for a dry run.
   */
  readonly out?: string | undefined;
  /** Replace rungs that exist. Default false: the run does not start. Other things in `out` remain. */
  readonly force?: boolean | undefined;
  /** Path of the reports, ending in `.json`: `a.json` makes `a-10.json`, ... Default: in each rung; `false` writes none. */
  readonly report?: string | boolean | undefined;
}
