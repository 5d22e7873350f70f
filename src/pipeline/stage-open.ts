import type { ReadingOptions } from '../options/texts.js';
import { type ModelFolder, openModelFolder, type SourceOptions } from '../storage/model-folder.js';
import type { Stage } from './job-context.js';

export interface OpenInput extends SourceOptions, ReadingOptions {
  /** A folder, an `.onnx` file, or a model of the Hub. */
  readonly model: string;
}

/** Opens a model folder, which is closed when the job ends. @see openModelFolder */
export const open: Stage<OpenInput, ModelFolder> = {
  name: 'open',
  async run({ platform, onEnd, onProgress, signal }, { model, embeddings, offline, bos }) {
    const folder = await openModelFolder(platform, model, { embeddings, offline, bos, onProgress, signal });
    onEnd(() => folder.close());
    return folder;
  },
};
