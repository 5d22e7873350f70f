import type { OnnxModel } from '../../onnx/onnx-model.js';
import type { ModelFolder } from '../../storage/model-folder.js';
import type { Stage } from '../job-context.js';

/** Loads a model; its weights stay where they are, as handles. */
export const load: Stage<ModelFolder, OnnxModel> = {
  name: 'load',
  run: ({ timed }, folder) => timed('load', () => folder.load()),
};
