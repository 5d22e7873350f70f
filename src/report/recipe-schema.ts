import type { ModuleKind } from '../architecture/layout.js';
import type { CalibrationProvenance } from '../calibration/calibration-set.js';
import type { JsonValue } from './report-schema.js';
import type { SavedFile } from './saved-file.js';

/** What `schema` says; the number rises when a field changes its meaning or goes. */
export const RECIPE_SCHEMA = 'fang-prune-recipe/1';

/** What a run decided, as plain data; what `recipe.json` holds. Repaired weights and biases lie in `recipe.safetensors`. */
export interface Recipe extends SavedFile {
  readonly schema: typeof RECIPE_SCHEMA;
  readonly method: string;
  readonly seed: number;
  /** Every option of the run, for readers; `apply` does not look at them. */
  readonly settings: Readonly<Record<string, JsonValue>>;
  readonly calibration?: CalibrationProvenance;
  /** Modules that lose units, in the order in which the run cut them. */
  readonly modules: readonly RecipeModule[];
  /** SHA-256 of the pruned model file and its external data; absent for a dry run. */
  readonly result?: { readonly sha256: string };
}

/** What one module loses. */
export interface RecipeModule {
  /** Index into the layout's modules. */
  readonly index: number;
  readonly block: number;
  readonly kind: ModuleKind;
  /** Units that stay, ascending. */
  readonly keep: readonly number[];
  /** Tensor with the repaired weight of the output map, as the model file holds it; absent: the kept columns as they were. */
  readonly weight?: string;
  /** Tensors with the repaired weights of the maps into an FFN, in the order of its nodes; absent: the kept rows as they were. */
  readonly inputs?: readonly string[];
  /** Tensor with what is added to the output map's result, float64; absent: nothing. */
  readonly bias?: string;
}
