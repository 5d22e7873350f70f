import { type EmbeddingsOption, type ModelFolder, openModelFolder } from '../../storage/model-folder.js';
import type { Stage } from '../job-context.js';

export interface OpenInput extends EmbeddingsOption {
  /** A folder, or an `.onnx` file. */
  readonly model: string;
}

/** Finds a model and what belongs to it; all that is opened is closed when the job ends. @see openModelFolder */
export const open: Stage<OpenInput, ModelFolder> = {
  name: 'open',
  async run({ platform, onEnd }, { model, embeddings }) {
    const folder = await openModelFolder(platform, model, { embeddings });
    onEnd(() => folder.close());
    return folder;
  },
};
