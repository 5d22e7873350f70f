import type { OnnxModel } from '../../onnx/onnx-model.js';
import { type FilledFolder, fillModelFolder } from '../../storage/fill-model-folder.js';
import type { ModelFolder } from '../../storage/model-folder.js';
import type { JsonObject } from '../../storage/read-json.js';
import type { Stage } from '../job-context.js';

export interface SaveInput {
  readonly model: OnnxModel;
  /** Where it comes from: what lies beside it goes along. */
  readonly source: ModelFolder;
  /** JSON files that are written instead of the source's, by path. */
  readonly documents: Readonly<Record<string, JsonObject>>;
  /** Absolute path of the folder to fill. */
  readonly folder: string;
}

/** Writes a model, its configuration, and all that lay beside it. @see fillModelFolder */
export const save: Stage<SaveInput, FilledFolder> = {
  name: 'save',
  run: ({ timed, onProgress, signal }, { model, folder, ...origin }) =>
    timed('save', () => fillModelFolder(folder, model, { ...origin, onProgress, signal })),
};
