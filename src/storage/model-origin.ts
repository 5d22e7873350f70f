import type { ModelLayout } from '../architecture/layout.js';
import { OptionError } from '../errors.js';
import type { OnnxModel } from '../onnx/onnx-model.js';
import { layoutFingerprint, type ModelOrigin } from '../report/model-origin.js';
import type { AnalysedModel } from '../runtime/analyse-model.js';
import { VERSION } from '../version.js';
import { hashFiles } from './hash-files.js';
import { type ModelFolder, runPaths } from './model-folder.js';

/** A file that was created from a model and is valid only for it. */
export interface ModelDerivative {
  /** For messages: `the recipe a.json`. */
  readonly name: string;
  /** Version of fang-prune that created it. */
  readonly version: string;
  readonly origin: ModelOrigin;
}

/** Identifies a model, for files that are created from it. @throws ModelFormatError when it cannot be read. */
export async function originOf(
  folder: ModelFolder,
  model: OnnxModel,
  { layout, signal }: { readonly layout: ModelLayout; readonly signal?: AbortSignal | undefined },
): Promise<ModelOrigin> {
  return { sha256: await hashModelFile(folder, model, signal), layout: await layoutFingerprint(layout) };
}

/** Refuses another model than the one that a file was created from. @throws OptionError naming both hashes. */
export async function checkModelHash(
  { name, origin: { sha256 } }: ModelDerivative,
  folder: ModelFolder,
  { model, signal }: { readonly model: OnnxModel; readonly signal?: AbortSignal | undefined },
): Promise<void> {
  const found = await hashModelFile(folder, model, signal);
  if (found === sha256) return;
  throw new OptionError(
    `${folder.root} is another model than the one that ${name} was created from: its SHA-256 is ${found}, not ${sha256}. Give that model.`,
  );
}

/** Refuses a model in which this version detects other modules. @throws OptionError naming both fingerprints. */
export async function checkLayout(
  { name, version, origin }: ModelDerivative,
  { detected }: AnalysedModel,
): Promise<void> {
  const found = await layoutFingerprint(detected.layout);
  if (found === origin.layout) return;
  throw new OptionError(
    `fang-prune ${VERSION} detects another structure in the model than ${version}, which created ${name} (layout ${found}, not ${origin.layout}). Use that version, or create it again.`,
  );
}

const hashModelFile = (folder: ModelFolder, model: OnnxModel, signal?: AbortSignal) =>
  hashFiles(folder.platform, runPaths(folder, model), signal);
