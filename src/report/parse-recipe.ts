import type { DetectedModel } from '../architecture/detect-layout.js';
import type { PrunableModule } from '../architecture/layout.js';
import type { OnnxModel, TensorHandle } from '../onnx/onnx-model.js';
import type { TensorShape } from '../onnx/tensor-handle.js';
import type { DecidedRemoval } from '../removal/apply-removals.js';
import { inputShapes } from '../removal/input-maps.js';
import { linearWeightName } from '../removal/repair-linear.js';
import { findTensor, type KeptTensors, readDoubles } from './find-tensor.js';
import { RECIPE_SCHEMA, type Recipe } from './recipe-schema.js';
import { checkSavedFile, damaged } from './saved-file.js';

/**
 * Checks that a JSON object is a recipe, as far as that shows without model and tensors.
 * @param file for messages
 * @throws ModelFormatError naming file and field.
 */
export function checkRecipe(json: Readonly<Record<string, unknown>>, file: string): Recipe {
  const found = json as Partial<Recipe>;
  const { modules, result } = found;
  const texts = result === undefined ? {} : { 'result.sha256': result.sha256 };
  checkSavedFile(found, file, { kind: 'recipe', schema: RECIPE_SCHEMA, texts });
  if (!Array.isArray(modules)) throw damaged('recipe', `${file}: modules is no list`);
  return found as Recipe;
}

export interface RecipeContext extends KeptTensors {
  readonly detected: DetectedModel;
  /** The dense model. */
  readonly model: OnnxModel;
}

/**
 * Makes a recipe's decisions ready to apply.
 * @throws ModelFormatError naming file and module or tensor where one does not fit the model.
 */
export async function parseRemovals(recipe: Recipe, context: RecipeContext): Promise<DecidedRemoval[]> {
  const removals: DecidedRemoval[] = [];
  const seen = new Set<number>();
  for (const [at, entry] of recipe.modules.entries()) {
    const { index, block, kind, keep, weight, inputs, bias } = Object(entry) as Recipe['modules'][number];
    const module = context.detected.layout.modules[index];
    const broken = (what: string) => damaged('recipe', `${context.files.json}: modules[${at}] ${what}`);
    if (module === undefined || module.block !== block || module.kind !== kind || seen.has(index))
      throw broken(`(block ${block} ${kind}) is no module of the model that is still whole`);
    seen.add(index);
    if (!isAscending(keep, module.unitCount))
      throw broken(`keeps no ascending list of units below ${module.unitCount}`);
    if (!isEven(keep, module)) throw broken('keeps more query heads of one KV head than of another');
    const kept = Int32Array.from(keep);
    removals.push({
      module,
      keep: kept,
      ...(weight !== undefined && { weight: findTensor(String(weight), weightShape(module, kept, context), context) }),
      ...(inputs !== undefined && { inputs: findInputs(module, kept, { names: inputs, context, broken }) }),
      ...(bias !== undefined && { bias: await readDoubles(String(bias), [module.output.outputCount], context) }),
    });
  }
  return removals;
}

function isAscending(keep: unknown, unitCount: number): keep is number[] {
  if (!Array.isArray(keep) || keep.length === 0) return false;
  return keep.every(
    (unit, at) => Number.isSafeInteger(unit) && unit >= 0 && unit < unitCount && (at === 0 || unit > keep[at - 1]),
  );
}

/** Grouped queries: every KV head that stays serves as many query heads. */
function isEven(keep: readonly number[], { groupOfUnit }: PrunableModule): boolean {
  if (groupOfUnit === undefined) return true;
  const counts = new Map<number, number>();
  for (const unit of keep) counts.set(groupOfUnit[unit]!, (counts.get(groupOfUnit[unit]!) ?? 0) + 1);
  return new Set(counts.values()).size === 1;
}

interface InputNames {
  readonly names: unknown;
  readonly context: RecipeContext;
  broken(what: string): Error;
}

function findInputs(module: PrunableModule, keep: Int32Array, { names, context, broken }: InputNames): TensorHandle[] {
  const shapes = inputShapes(context.model, { detected: context.detected, module, keep });
  if (!Array.isArray(names) || names.length !== shapes.length)
    throw broken(`names no list of ${shapes.length} tensors with the weights of the maps into the FFN`);
  return names.map((name, at) => findTensor(String(name), shapes[at]!, context));
}

function weightShape({ output, unitSize }: PrunableModule, keep: Int32Array, { model }: RecipeContext): TensorShape {
  const { dataType } = model.weights.get(linearWeightName(model, output))!;
  const channelCount = keep.length * unitSize;
  const dims = output.inputAxis === 1 ? [output.outputCount, channelCount] : [channelCount, output.outputCount];
  return { dataType, dims };
}
