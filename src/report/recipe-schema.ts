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
  /** Machine and engine of the run. */
  readonly environment?: EnvironmentReport;
  readonly method: string;
  readonly seed: number;
  /** All options of the run, for information; `apply` does not read them. */
  readonly settings: Readonly<Record<string, JsonValue>>;
  readonly calibration?: CalibrationProvenance;
  /** Key of runs with the same result; absent if the run has no key. */
  readonly run?: string;
  /** Modules with removed units, in the order of their removal. */
  readonly modules: readonly RecipeModule[];
  /** SHA-256 of the pruned model file and its external data; absent for a dry run. */
  readonly result?: { readonly sha256: string };
}

/** Remaining units of one module. */
export interface RecipeModule {
  /** Index into the layout's modules. */
  readonly index: number;
  readonly block: number;
  readonly kind: ModuleKind;
  /** Remaining units, ascending. */
  readonly keep: readonly number[];
  /**
   * Remaining neurons of each expert in `keep`, of equal number, in hexadecimal digits (`writeUnitBits`). If neurons can only
   * be removed in blocks, a bit is a block. Absent: all remain.
   */
  readonly neurons?: readonly string[];
}
