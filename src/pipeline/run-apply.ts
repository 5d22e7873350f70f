import { ModelFormatError } from '../errors.js';
import { withoutFront } from '../graph/join-embedding.js';
import { APPLY } from '../options/commands.js';
import { checkOptions, rowsOf } from '../options/option.js';
import type { Platform } from '../platform/platform.js';
import { applyChange } from '../removal/apply-change.js';
import { pruneTwin } from '../removal/prune-no-past-branch.js';
import { checkRecipe, parseChange } from '../report/parse-recipe.js';
import type { Recipe } from '../report/recipe-schema.js';
import type { BeforeAfter, SideFilesReport } from '../report/report-schema.js';
import { hashFiles } from '../storage/hash-files.js';
import { openPair, resolvePair } from '../storage/json-with-tensors.js';
import { type ModelFolder, type ModelRequest, modelPaths, totalBytes } from '../storage/model-folder.js';
import { checkLayout, checkModelHash } from '../storage/model-origin.js';
import { VERSION } from '../version.js';
import { type JobContext, withJob } from './job-context.js';
import { runOf } from './kept-run.js';
import { refuseCoded } from './refuse-coded.js';
import { countParameters, hashSaved, mendDocuments, reportSideFiles } from './result-facts.js';
import { analyse } from './stages/analyse.js';
import { load } from './stages/load.js';
import { open } from './stages/open.js';
import { type SaveInput, save } from './stages/save.js';

/** A recipe, the dense model that it was made from, byte for byte, and where the result goes. */
export interface ApplyRequest extends ModelRequest {
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
  /** What lay beside the model; absent for a result that was there already. */
  readonly sideFiles?: SideFilesReport;
}

/** Open, load, analyse, save. */
export async function runApply(platform: Platform, request: ApplyRequest): Promise<AppliedRecipe> {
  checkOptions(request, rowsOf(APPLY));
  const { out, force } = request;
  const place = resolvePair(platform.files, 'recipe', request.recipe);
  return withJob(platform, request, async (context) => {
    const { signal } = context;
    const { json: recipe, tensors, close } = await openPair(platform, place, { check: checkRecipe, signal });
    context.onEnd(close);
    const folder = await open.run(context, request);
    const made = force === true ? undefined : await findMade(context, out, recipe);
    if (made === undefined) await platform.files.checkOutput({ output: out, source: folder.root, force });
    else await clearLeft(platform, out);
    const dense = await load.run(context, folder);
    refuseCoded(request.model, dense, 'recipes change floats: give the float model that the recipe was made for');
    const origin = { name: `the recipe ${place.json}`, version: recipe.version, origin: recipe.model };
    await checkModelHash(origin, folder, { model: dense, signal });
    const engine = await platform.createEngine(request);
    const analysed = await analyse.run(context, { model: dense, engine });
    await checkLayout(origin, analysed);
    const change = parseChange(recipe, { analysed, model: dense, tensors, files: place });
    const model = await pruneTwin(withoutFront(applyChange(dense, analysed, change)), change, engine);
    const documents = mendDocuments(folder, analysed, { model, modules: change.modules });
    const output = { output: out, source: folder.root, force, run: recipe.run };
    const build = (partial: string) => buildModel(context, partial, { recipe, model, folder, documents });
    const written = made ?? (await platform.files.buildFolder(output, build));
    return {
      model: request.model,
      out,
      sha256: written.sha256,
      parameters: { before: analysed.detected.layout.parameterCount, after: countParameters(model) },
      bytes: { before: await totalBytes(platform, modelPaths(folder, dense)), after: written.byteLength },
      ...(written.sideFiles && { sideFiles: written.sideFiles }),
    };
  });
}

/** A model that was written. */
type WrittenModel = Pick<AppliedRecipe, 'sha256' | 'sideFiles'> & { readonly byteLength: number };

/** What the same call has made, which was ended before it could say so; undefined where it has not, or something is wrong with it. */
async function findMade(context: JobContext, out: string, { run, result }: Recipe): Promise<WrittenModel | undefined> {
  const { platform, signal } = context;
  if (run === undefined || (await runOf(platform.files, out)) !== run) return undefined;
  try {
    const folder = await open.run(context, { model: out });
    const paths = modelPaths(folder, await folder.load());
    const sha256 = await hashFiles(platform, paths, signal);
    return sha256 === result?.sha256 ? { sha256, byteLength: await totalBytes(platform, paths) } : undefined;
  } catch (error) {
    if (error instanceof ModelFormatError) return undefined;
    throw error;
  }
}

/** Takes away what a run left that made a folder and was ended before it could clear up. */
async function clearLeft(platform: Platform, output: string): Promise<void> {
  const left = await platform.openWorkspace?.({ output, key: undefined, resume: false });
  await left?.close(true);
}

interface Building extends Pick<SaveInput, 'model' | 'documents'> {
  readonly recipe: Recipe;
  readonly folder: ModelFolder;
}

async function buildModel(
  context: JobContext,
  partial: string,
  { recipe, model, folder, documents }: Building,
): Promise<WrittenModel> {
  const saved = await save.run(context, { model, source: folder, documents, folder: partial });
  const sha256 = await hashSaved(context, partial, saved);
  await folder.checkUnchanged();
  checkResult(recipe, sha256);
  return { sha256, byteLength: saved.byteLength, sideFiles: reportSideFiles(saved) };
}

/** Versions may write the same model in other bytes; the same version may not. */
function checkResult({ result, version }: Recipe, sha256: string): void {
  if (result === undefined || result.sha256 === sha256 || version !== VERSION) return;
  throw new ModelFormatError(
    `the recipe gave a model with the SHA-256 ${sha256}, not ${result.sha256} as it says. Get the recipe again.`,
  );
}
