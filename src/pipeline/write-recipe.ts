import type { CalibrationProvenance } from '../calibration/calibration-set.js';
import type { PruneJob, PruneOutcome } from '../prune/job.js';
import type { ModuleCut } from '../removal/apply-change.js';
import { RECIPE_SCHEMA, type Recipe, type RecipeModule } from '../report/recipe-schema.js';
import { writeUnitBits } from '../report/unit-bits.js';
import { type PairPaths, writePair } from '../storage/json-with-tensors.js';
import type { ModelFolder } from '../storage/model-folder.js';
import { originOf } from '../storage/model-origin.js';
import { VERSION } from '../version.js';
import { describeEnvironment } from './describe-environment.js';
import type { JobContext } from './job-context.js';

/** Source of a recipe. */
export interface RecipeInput {
  readonly folder: ModelFolder;
  readonly job: Pick<PruneJob, 'model' | 'analysed' | 'options' | 'engine'>;
  readonly outcome: Pick<PruneOutcome, 'modules' | 'changed'>;
  /** See `plainSettings`. */
  readonly settings: Recipe['settings'];
  readonly calibration: CalibrationProvenance | undefined;
  /** SHA-256 of the written files; undefined for a dry run. */
  readonly sha256: string | undefined;
  /** See `FolderManifest`. */
  readonly run: string | undefined;
}

/** Writes removed units and changed weights, for `applyRecipe`. @throws OptionError when it cannot be written. */
export async function writeRecipe(
  { platform, signal }: JobContext,
  place: PairPaths,
  { folder, job, outcome, settings, calibration, sha256, run }: RecipeInput,
): Promise<void> {
  const { layout } = job.analysed.detected;
  const json: Omit<Recipe, 'tensors'> = {
    schema: RECIPE_SCHEMA,
    version: VERSION,
    model: await originOf(folder, job.model, { layout, signal }),
    environment: describeEnvironment(platform, job.engine),
    method: job.options.methodName,
    seed: job.options.seed,
    settings,
    ...(run !== undefined && { run }),
    ...(calibration && { calibration }),
    ...(sha256 !== undefined && { result: { sha256 } }),
    modules: outcome.modules.map(recipeModule),
  };
  await writePair(platform, place, { json, tensors: outcome.changed });
}

/** Remaining units of a module in a recipe. */
export function recipeModule({ module, keep, neurons }: ModuleCut): RecipeModule {
  const { index, block, kind, neurons: { unitCount } = { unitCount: 0 } } = module;
  const width = (neurons?.length ?? 0) / keep.length;
  const rows =
    neurons && Array.from(keep, (_, row) => writeUnitBits(neurons.subarray(row * width, (row + 1) * width), unitCount));
  return { index, block, kind, keep: [...keep], ...(rows && { neurons: rows }) };
}
