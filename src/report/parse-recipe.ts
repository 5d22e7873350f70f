import { MODULE_KINDS, type PrunableModule } from '../architecture/layout.js';
import type { OnnxModel, TensorHandle } from '../onnx/onnx-model.js';
import { refuseElements } from '../onnx/refuse-nan.js';
import {
  anyObject,
  anyText,
  arrayOf,
  choice,
  type Fields,
  integer,
  type Kind,
  optional,
  text,
  withFields,
} from '../options/kinds.js';
import { cutModel, type ModelChange, type ModuleCut } from '../removal/apply-change.js';
import type { AnalysedModel } from '../runtime/analyse-model.js';
import { findTensor, type SavedTensors } from './find-tensor.js';
import { RECIPE_SCHEMA, type Recipe } from './recipe-schema.js';
import { checkSavedFile, damaged } from './saved-file.js';
import { readUnitBits } from './unit-bits.js';

/** Units of a row in the format of `writeUnitBits`. */
const digits: Kind<string> = {
  ...text('hexadecimal digits', (value) => /^[0-9a-f]*$/.test(value)),
  schema: { type: 'string', pattern: '^[0-9a-f]*$' },
};

/** Fields of a recipe in addition to those of every saved file. */
export const RECIPE = {
  method: anyText,
  seed: integer(0),
  settings: anyObject,
  calibration: optional(withFields({ tokensSha256: anyText, windowCount: integer(0), windowLength: integer(0) })),
  run: optional(anyText),
  modules: arrayOf(
    withFields({
      index: integer(0),
      block: integer(0),
      kind: choice(MODULE_KINDS),
      keep: arrayOf(integer(0)),
      neurons: optional(arrayOf(digits)),
    }),
  ),
  result: optional(withFields({ sha256: anyText })),
} satisfies Fields;

/**
 * Checks the fields of a recipe, without model and tensors.
 * @param file for messages
 * @throws ModelFormatError naming file and field.
 */
export function checkRecipe(json: Readonly<Record<string, unknown>>, file: string): Recipe {
  const found = json as Partial<Recipe>;
  checkSavedFile(found, file, { kind: 'recipe', schema: RECIPE_SCHEMA, fields: RECIPE });
  return found as Recipe;
}

export interface RecipeContext extends SavedTensors {
  readonly analysed: AnalysedModel;
  /** The dense model. */
  readonly model: OnnxModel;
}

/**
 * Parses the changes of a recipe for a model.
 * @throws ModelFormatError naming file and module or tensor that does not fit the model. Reading a changed weight throws it for
 *   NaN and infinity.
 */
export function parseChange(recipe: Recipe, context: RecipeContext): ModelChange {
  const modules = parseModules(recipe, context);
  const { analysed, model, tensors, files } = context;
  const cut = cutModel(model, analysed, { modules, changed: tensors });
  const changed = new Map<string, TensorHandle>();
  for (const name of tensors.keys()) {
    const place = cut.weights.get(name);
    if (place === undefined)
      throw damaged('recipe', `${files.tensors}: tensor "${name}" is not a weight of the pruned model`);
    const fail = (position: number) =>
      damaged('recipe', `${files.tensors}: tensor "${name}" has no finite number at position ${position}`);
    changed.set(name, refuseElements(findTensor(name, place, context), { allowInfinity: false, fail }));
  }
  return { modules, changed };
}

function parseModules(recipe: Recipe, { analysed, files }: RecipeContext): ModuleCut[] {
  const { modules } = analysed.detected.layout;
  const seen = new Set<number>();
  return recipe.modules.map((entry, at) => {
    const { index, block, kind, keep, neurons } = Object(entry) as Recipe['modules'][number];
    const module = modules[index];
    const invalid = (problem: string) => damaged('recipe', `${files.json}: modules[${at}] ${problem}`);
    if (module === undefined || module.block !== block || module.kind !== kind || seen.has(index))
      throw invalid(`(block ${block} ${kind}) is not a module of the model, or is listed twice`);
    seen.add(index);
    if (!isAscending(keep, module.unitCount))
      throw invalid(`has no ascending list of units below ${module.unitCount} in "keep"`);
    const { leastExperts: least = 1 } = module;
    if (keep.length < least) throw invalid(`keeps ${keep.length} experts; its router needs at least ${least}`);
    if (!isEven(keep, module))
      throw invalid(
        kind === 'experts'
          ? 'keeps more experts of one group than of another'
          : 'keeps more query heads of one KV head than of another',
      );
    if (neurons === undefined) return { module, keep: Int32Array.from(keep) };
    if (module.neurons === undefined) throw invalid('has neurons of experts, and those of the model cannot be removed');
    const rows = readRows(neurons, keep.length, module.neurons.unitCount);
    if (rows === undefined)
      throw invalid(
        `does not have ${keep.length} rows of hexadecimal digits for ${module.neurons.unitCount} units of neurons, with an equal number of remaining ones`,
      );
    return { module, keep: Int32Array.from(keep), neurons: Int32Array.from(rows.flat()) };
  });
}

function isAscending(keep: unknown, unitCount: number): keep is number[] {
  if (!Array.isArray(keep) || keep.length === 0) return false;
  return keep.every(
    (unit, at) => Number.isSafeInteger(unit) && unit >= 0 && unit < unitCount && (at === 0 || unit > keep[at - 1]),
  );
}

/** Remaining units of each expert; undefined if the numbers of units differ, or a row is invalid. */
function readRows(list: unknown, rowCount: number, unitCount: number): number[][] | undefined {
  if (!Array.isArray(list) || list.length !== rowCount) return undefined;
  const rows = list.map((row) => readUnitBits(row, unitCount) ?? []);
  return rows.every(({ length }) => length > 0 && length === rows[0]!.length) ? rows : undefined;
}

/** Whether all remaining groups have equal numbers of units: KV heads of query heads, groups of experts. */
function isEven(keep: readonly number[], { groupOfUnit }: PrunableModule): boolean {
  if (groupOfUnit === undefined) return true;
  const counts = new Map<number, number>();
  for (const unit of keep) counts.set(groupOfUnit[unit]!, (counts.get(groupOfUnit[unit]!) ?? 0) + 1);
  return new Set(counts.values()).size === 1;
}
