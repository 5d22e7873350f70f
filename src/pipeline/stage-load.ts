import type { OnnxModel } from '../onnx/onnx-model.js';
import { formatBytes } from '../report/format-quantity.js';
import type { ModelFolder } from '../storage/model-folder.js';
import type { Stage } from './job-context.js';

/** Loads a model with weights as handles. Equal tables are shared, with a remark. */
export const load: Stage<ModelFolder, OnnxModel> = {
  name: 'load',
  run: ({ timed, remarks }, folder) =>
    timed('load', async () => {
      const model = await folder.load();
      remarks.push(...remarkShared(model));
      return model;
    }),
};

/** Remark about duplicate weights that are written once. */
export function remarkShared({ shared = [] }: OnnxModel): readonly string[] {
  if (shared.length === 0) return [];
  const bytes = shared.reduce((sum, { byteLength }) => sum + byteLength, 0);
  return [
    `${shared.map(({ name }) => name).join(', ')} ${shared.length === 1 ? 'is a copy' : 'are copies'} of other weights: counted, rounded and written once, which saves ${formatBytes(bytes)} of the original's file`,
  ];
}
