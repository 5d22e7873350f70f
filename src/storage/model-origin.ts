import type { ModelLayout } from '../architecture/layout.js';
import { OptionError } from '../errors.js';
import type { OnnxModel } from '../onnx/onnx-model.js';
import { layoutFingerprint, type ModelOrigin } from '../report/model-origin.js';
import type { AnalysedModel } from '../runtime/analyse-model.js';
import { VERSION } from '../version.js';
import { hashFiles } from './hash-files.js';
import { type ModelFolder, runPaths } from './model-folder.js';

/** A file that is made from a model and may only be used with it. */
export interface MadeFrom {
  /** For messages: `the recipe a.json`. */
  readonly name: string;
  /** Version that made it. */
  readonly version: string;
  readonly origin: ModelOrigin;
}

/** Describes a model for files that are made from it. @throws ModelFormatError when it cannot be read. */
export async function originOf(
  folder: ModelFolder,
  model: OnnxModel,
  { layout, signal }: { readonly layout: ModelLayout; readonly signal?: AbortSignal | undefined },
): Promise<ModelOrigin> {
  return { sha256: await hashModelFile(folder, model, signal), layout: await layoutFingerprint(layout) };
}

/** Refuses another model than the one something was made from. @throws OptionError naming both hashes. */
export async function checkModelHash(
  { name, origin: { sha256 } }: MadeFrom,
  folder: ModelFolder,
  { model, signal }: { readonly model: OnnxModel; readonly signal?: AbortSignal | undefined },
): Promise<void> {
  const found = await hashModelFile(folder, model, signal);
  if (found === sha256) return;
  throw new OptionError(
    `${folder.root} is another model than ${name} was made from: its SHA-256 is ${found}, not ${sha256}. Give the model that was used then.`,
  );
}

/** Refuses a model that this version sees other modules in. @throws OptionError naming both fingerprints. */
export async function checkLayout({ name, version, origin }: MadeFrom, { detected }: AnalysedModel): Promise<void> {
  const found = await layoutFingerprint(detected.layout);
  if (found === origin.layout) return;
  throw new OptionError(
    `fang-prune ${VERSION} detects another structure in the model than ${version}, which made ${name} (layout ${found}, not ${origin.layout}). Use that version, or make it again.`,
  );
}

const hashModelFile = (folder: ModelFolder, model: OnnxModel, signal?: AbortSignal) =>
  hashFiles(folder.platform, runPaths(folder, model), signal);
