import type { ModuleKind } from '../architecture/layout.js';
import type { CalibrationProvenance } from '../calibration/calibration-set.js';
import type { EnvironmentReport, JsonValue } from './report-schema.js';
import type { SavedFile } from './saved-file.js';

/** Value of `schema`; the number rises when a field changes its meaning or is removed. */
export const RECIPE_SCHEMA = 'fang-prune-recipe/3';

/**
 * Changes of a run to a model, as plain data: the contents of `recipe.json`. Changed weights are in `recipe.safetensors` under
 * the names of their initializers in the pruned graph.
 */
export interface Recipe extends SavedFile {
  readonly schema: typeof RECIPE_SCHEMA;
  /** Where the run took place. */
  readonly environment?: EnvironmentReport;
  readonly method: string;
  readonly seed: number;
  /** Every option of the run, for readers; `apply` does not read them. */
  readonly settings: Readonly<Record<string, JsonValue>>;
  readonly calibration?: CalibrationProvenance;
  /** Key of runs that make the same folder; absent where there is none. */
  readonly run?: string;
  /** Modules that lose units, in the order in which the run cut them. */
  readonly modules: readonly RecipeModule[];
  /** SHA-256 of the pruned model file and its external data; absent for a dry run. */
  readonly result?: { readonly sha256: string };
}

/** Units that one module loses. */
export interface RecipeModule {
  /** Index into the layout's modules. */
  readonly index: number;
  readonly block: number;
  readonly kind: ModuleKind;
  /** Units that remain, ascending. */
  readonly keep: readonly number[];
  /**
   * Neurons that remain in each expert of `keep`, as many in each, in hexadecimal digits (`writeUnitBits`); units of several neurons, where
   * these can only leave together. Absent: all.
   */
  readonly neurons?: readonly string[];
}
