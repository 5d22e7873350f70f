import type { CalibrationOptions, PruneOptions } from '../options.js';
import type { EngineChoice } from '../platform/platform.js';
import type { EmbeddingsOption } from '../storage/model-folder.js';
import type { TextEvaluation } from './evaluate/text-evaluation.js';
import type { StatesPlace } from './prepare-job.js';
import type { StagesOption } from './stages.js';

/** A pruning run over a model folder. */
export interface PruneRequest extends PruneOptions, EmbeddingsOption, EngineChoice, StagesOption {
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
  readonly hiddenStates?: StatesPlace | undefined;
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
