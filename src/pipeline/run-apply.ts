import { ModelFormatError } from '../errors.js';
import { withoutEmbeddingPrefix } from '../onnx/join-embedding.js';
import { APPLY } from '../options/commands.js';
import { checkOptions, type OptionsOf, rowsOf } from '../options/option.js';
import type { APPLY_RESULT } from '../options/single-calls.js';
import { applyChange } from '../removal/apply-change.js';
import { pruneNoPastBranch } from '../removal/prune-no-past-branch.js';
import { checkRecipe, parseChange } from '../report/parse-recipe.js';
import type { Recipe } from '../report/recipe-schema.js';
import type { BeforeAfter, SideFilesReport } from '../report/report-schema.js';
import type { Platform } from '../runtime/platform.js';
import { hashFiles } from '../storage/hash-files.js';
import { openPair, resolvePair } from '../storage/json-with-tensors.js';
import { type ModelFolder, type ModelRequest, modelPaths, totalBytes } from '../storage/model-folder.js';
import { checkLayout, checkModelHash } from '../storage/model-origin.js';
import { VERSION } from '../version.js';
import type { JobContext } from './job-context.js';
import { refuseCoded } from './refuse-coded.js';
import { countParameters, hashSaved, reportSideFiles, updateDocuments } from './result-facts.js';
import { buildOutput, isUnchanged, type OpenedModels, runOf, runResumable } from './resumable-job.js';
import { open } from './stage-open.js';
import type { SaveInput } from './stage-save.js';
import type { Stages, StagesOption } from './stages.js';

/** A recipe, the identical dense model, and the output. */
export interface ApplyRequest extends ModelRequest, StagesOption, OptionsOf<typeof APPLY_RESULT> {}

/** Result of applying a recipe. */
export interface AppliedRecipe {
  readonly model: string;
  readonly out: string;
  /** SHA-256 of the written model file and its external data. */
  readonly sha256: string;
  readonly parameters: BeforeAfter;
  readonly bytes: BeforeAfter;
  /** Files next to the model; absent for an existing result. */
  readonly sideFiles?: SideFilesReport;
}

/** Opens, loads, analyses and saves. */
export function runApply(platform: Platform, request: ApplyRequest): Promise<AppliedRecipe> {
  checkOptions(request, rowsOf(APPLY));
  const { out, force } = request;
  const { files } = platform;
  const place = resolvePair(files, 'recipe', request.recipe);
  return runResumable<OpenedRecipe, void, WrittenModel, AppliedRecipe>(platform, {
    call: undefined,
    request: { ...request, resume: force !== true },
    output: out,
    async open(context, stages) {
      const pair = await openPair(platform, place, { check: checkRecipe, signal: context.signal });
      context.onEnd(pair.close);
      return { place, pair, folders: [await stages.open.run(context, request)] };
    },
    prepare: async () => undefined,
    find: (context, { pair }) => findSaved(context, out, pair.json),
    async make(context, { opened, engine, stages, found }) {
      const { signal } = context;
      const { json: recipe, tensors } = opened.pair;
      const folder = opened.folders[0]!;
      const dense = await stages.load.run(context, folder);
      refuseCoded(request.model, dense, 'recipes apply to floats: give the float model that it was created from');
      const origin = { name: `the recipe ${place.json}`, version: recipe.version, origin: recipe.model };
      await checkModelHash(origin, folder, { model: dense, signal });
      const analysed = await stages.analyse.run(context, { model: dense, engine });
      await checkLayout(origin, analysed);
      const change = parseChange(recipe, { analysed, model: dense, tensors, files: place });
      const model = await pruneNoPastBranch(
        withoutEmbeddingPrefix(applyChange(dense, analysed, change)),
        change,
        engine,
      );
      const documents = updateDocuments(folder, analysed, { model, modules: change.modules });
      const build = (partial: string) => buildModel(context, partial, { recipe, model, folder, documents, stages });
      const written = found ?? (await buildOutput(context, { out, source: folder, force, run: recipe.run }, build));
      return {
        model: request.model,
        out,
        sha256: written.sha256,
        parameters: { before: analysed.detected.layout.parameterCount, after: countParameters(model) },
        bytes: { before: await totalBytes(platform, modelPaths(folder, dense)), after: written.byteLength },
        ...(written.sideFiles && { sideFiles: written.sideFiles }),
      };
    },
  });
}

interface OpenedRecipe extends OpenedModels {
  readonly pair: Awaited<ReturnType<typeof openPair<Recipe>>>;
}

/** A written model. */
type WrittenModel = Pick<AppliedRecipe, 'sha256' | 'sideFiles'> & { readonly byteLength: number };

/** Result of an earlier call; undefined if missing, changed or damaged. */
async function findSaved(context: JobContext, out: string, { run, result }: Recipe): Promise<WrittenModel | undefined> {
  const { platform, signal } = context;
  if (run === undefined || (await runOf(platform.files, out)) !== run) return undefined;
  if (!(await isUnchanged(platform.files, out))) return undefined;
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

interface BuildInput extends Pick<SaveInput, 'model' | 'documents'> {
  readonly recipe: Recipe;
  readonly folder: ModelFolder;
  readonly stages: Stages;
}

async function buildModel(
  context: JobContext,
  partial: string,
  { recipe, model, folder, documents, stages }: BuildInput,
): Promise<WrittenModel> {
  const saved = await stages.save.run(context, { model, source: folder, documents, folder: partial });
  const sha256 = await hashSaved(context, partial, saved);
  await folder.checkUnchanged();
  checkResult(recipe, sha256);
  return { sha256, byteLength: saved.byteLength, sideFiles: reportSideFiles(saved) };
}

/** Checks the hash: only other versions may write different bytes. */
function checkResult({ result, version }: Recipe, sha256: string): void {
  if (result === undefined || result.sha256 === sha256 || version !== VERSION) return;
  throw new ModelFormatError(
    `the recipe gave a model with the SHA-256 ${sha256}, expected ${result.sha256}. Get the recipe again.`,
  );
}
