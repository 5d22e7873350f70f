import { createHash, randomBytes } from 'node:crypto';
import { mkdir, rename, rm, writeFile } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { ModelFormatError, OptionError } from '../errors.js';
import type { ByteSink } from '../onnx/byte-source.js';
import { readSafetensors, writeSafetensors } from '../onnx/safetensors.js';
import type { RecipeParts } from '../report/build-recipe.js';
import { formatJson } from '../report/format-json.js';
import { checkRecipe } from '../report/parse-recipe.js';
import type { Recipe } from '../report/recipe-schema.js';
import { contains, exists } from './check-output.js';
import { createFileSink, writing } from './file-folder.js';
import { openFileSource } from './file-source.js';
import { hashFiles } from './hash-files.js';
import { readJsonFile } from './read-json.js';

/** The two files of a recipe, absolute. */
export interface RecipePlace {
  readonly json: string;
  readonly tensors: string;
}

/**
 * Says where a recipe lies.
 * @param path A file ending in `.json`, its tensors beside it under the same name; or a folder with `recipe.json`.
 * @throws OptionError
 */
export function resolveRecipePlace(path: string): RecipePlace {
  if (typeof path !== 'string' || path.trim() === '')
    throw new OptionError(`recipe is ${JSON.stringify(path)}; expected a folder or a path ending in .json`);
  const stem = path.endsWith('.json') ? resolve(path).slice(0, -'.json'.length) : join(resolve(path), 'recipe');
  return { json: `${stem}.json`, tensors: `${stem}.safetensors` };
}

/** Refuses a place that is taken, or lies in the folder that a run is to make. @throws OptionError */
export async function checkRecipePlace({ json }: RecipePlace, out: string | undefined, force = false): Promise<void> {
  if (out !== undefined && contains(resolve(out), json))
    throw new OptionError(`The recipe ${json} lies in the output folder ${out}. Choose another place for it.`);
  if (!force && (await exists(json)))
    throw new OptionError(`The recipe ${json} exists. Choose another place, or force its replacement.`);
}

/** Writes a recipe; the JSON file, which names the hash of the other, appears last. @throws OptionError */
export async function writeRecipe(
  place: RecipePlace,
  recipe: Omit<Recipe, 'tensors' | 'modules'>,
  { modules, tensors }: RecipeParts,
): Promise<void> {
  const folder = dirname(place.json);
  const suffix = `.partial-${randomBytes(4).toString('hex')}`;
  const partials = { json: place.json + suffix, tensors: place.tensors + suffix };
  await writing(folder, () => mkdir(folder, { recursive: true }));
  try {
    const hash = createHash('sha256');
    const file = await createFileSink(folder).create(basename(partials.tensors));
    const sink: ByteSink = {
      async write(bytes) {
        hash.update(bytes);
        await file.write(bytes);
      },
    };
    await writeSafetensors(sink, tensors).finally(() => file.close());
    const whole: Recipe = {
      ...recipe,
      modules,
      tensors: { file: basename(place.tensors), sha256: hash.digest('hex') },
    };
    await writing(place.json, async () => {
      await writeFile(partials.json, formatJson(whole));
      await rename(partials.tensors, place.tensors);
      await rename(partials.json, place.json);
    });
  } finally {
    await Promise.all(Object.values(partials).map((path) => rm(path, { force: true })));
  }
}

/** A recipe that was opened. */
export interface OpenRecipe {
  readonly recipe: Recipe;
  readonly tensors: RecipeParts['tensors'];
}

/**
 * Opens a recipe while `use` works with it.
 * @throws OptionError when there is none; ModelFormatError naming the file that is damaged.
 */
export async function withRecipe<T>(place: RecipePlace, use: (opened: OpenRecipe) => Promise<T>): Promise<T> {
  const json = await readJsonFile(place.json);
  if (json === undefined) throw new OptionError(`There is no recipe at ${place.json}.`);
  const recipe = checkRecipe(json, place.json);
  const source = await openFileSource(place.tensors);
  if (source === undefined)
    throw new ModelFormatError(`${place.tensors} is missing; it belongs to ${place.json}. Get the recipe again.`);
  try {
    const tensors = await readSafetensors(source);
    const found = await hashFiles([place.tensors]);
    if (found !== recipe.tensors.sha256) {
      throw new ModelFormatError(
        `${place.tensors} has the SHA-256 ${found}, but ${place.json} belongs to ${recipe.tensors.sha256}. Get the recipe again.`,
      );
    }
    return await use({ recipe, tensors });
  } finally {
    await source.close();
  }
}
