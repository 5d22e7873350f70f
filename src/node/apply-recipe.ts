import { ModelFormatError } from '../errors.js';
import { withoutFront } from '../graph/join-embedding.js';
import type { SavedModel } from '../onnx/save-model.js';
import type { JobControl } from '../progress.js';
import { applyRemovals } from '../removal/apply-removals.js';
import { pruneTwin } from '../removal/prune-twin.js';
import { checkRecipe, parseRemovals } from '../report/parse-recipe.js';
import type { Recipe } from '../report/recipe-schema.js';
import type { BeforeAfter } from '../report/report-schema.js';
import { analyseModel } from '../runtime/analyse-model.js';
import { VERSION } from '../version.js';
import { checkOutput } from './check-output.js';
import { runIsolated } from './isolate.js';
import { type OpenPair, resolvePair, withPair } from './json-with-tensors.js';
import type { EmbeddingsOption } from './model-folder.js';
import { checkLayout, checkModelHash } from './model-origin.js';
import { createNodeEngine, type EngineChoice } from './node-engine.js';
import { withModelFolder } from './with-model-folder.js';
import { writeModelFolder } from './write-model-folder.js';
import { countParameters, hashSaved, mendDocuments, storedBytes } from './write-result.js';

/** A recipe, what it was made from, and where the result goes. */
export interface ApplyRequest extends JobControl, EmbeddingsOption, EngineChoice {
  /** A folder in transformers.js or onnxruntime-genai layout, or an `.onnx` file: the dense model of the recipe, byte for byte. */
  readonly model: string;
  /** Folder with `recipe.json`, or the path of such a file. */
  readonly recipe: string;
  /** Folder to be made. */
  readonly out: string;
  /** Replace `out` if it exists. Default false. */
  readonly force?: boolean | undefined;
}

/** What came of a recipe. */
export interface AppliedRecipe {
  readonly model: string;
  readonly out: string;
  /** SHA-256 of the model file and its external data, as they were written. */
  readonly sha256: string;
  readonly parameters: BeforeAfter;
  readonly bytes: BeforeAfter;
}

/**
 * Prunes a model as another run did, from its recipe: no calibration, the same bytes.
 *
 * @throws OptionError when the model is not the recipe's, or `out` exists; ModelFormatError when the recipe is damaged or
 *   gives another result than it was made from; UnsupportedModelError, EngineError.
 * @example
 * await prune({ model: './model', out: './smaller', sparsity: 0.3, recipe: './recipe' });
 * await applyRecipe({ model: './copy-of-model', recipe: './recipe', out: './the-same' });
 */
export async function applyRecipe(request: ApplyRequest): Promise<AppliedRecipe> {
  if (request.isolate) return runIsolated('applyRecipe', request);
  const { out, force, signal, onProgress } = request;
  const place = resolvePair('recipe', request.recipe);
  const use = ({ json: recipe, tensors }: OpenPair<Recipe>) =>
    withModelFolder(request.model, request, async (folder) => {
      await checkOutput({ output: out, source: folder.root, force });
      const dense = await folder.load();
      const made = { name: `the recipe ${place.json}`, version: recipe.version, origin: recipe.model };
      await checkModelHash(made, folder, { model: dense, signal });
      const engine = await createNodeEngine(request);
      const analysed = await analyseModel(dense, engine, signal);
      await checkLayout(made, analysed);
      const { detected } = analysed;
      const removals = await parseRemovals(recipe, { detected, model: dense, tensors, files: place });
      const model = await pruneTwin(withoutFront(await applyRemovals(dense, analysed, removals)), removals, engine);
      let sha256 = '';
      const complete = async (partial: string, saved: SavedModel) => {
        sha256 = await hashSaved(partial, saved, signal);
        checkResult(recipe, sha256);
      };
      const documents = mendDocuments(folder, analysed, { model, modules: removals });
      const writing = { output: out, force, documents, complete, onProgress, signal };
      const { byteLength } = await writeModelFolder(model, folder, writing);
      return {
        model: request.model,
        out,
        sha256,
        parameters: { before: detected.layout.parameterCount, after: countParameters(model) },
        bytes: { before: await storedBytes(folder, dense), after: byteLength },
      };
    });
  return withPair(place, { check: checkRecipe, use, signal });
}

/** Versions may write the same model in other bytes; the same version may not. */
function checkResult({ result, version }: Recipe, sha256: string): void {
  if (result === undefined || result.sha256 === sha256 || version !== VERSION) return;
  throw new ModelFormatError(
    `the recipe gave a model with the SHA-256 ${sha256}, not ${result.sha256} as it says. Get the recipe again.`,
  );
}
