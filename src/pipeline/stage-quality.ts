import { sha256OfTokens } from '../calibration/sha256.js';
import { FangPruneError } from '../errors.js';
import { comparePredictions } from '../evaluation/compare-predictions.js';
import type { QualityReport } from '../report/report-schema.js';
import type { Engine } from '../runtime/engine.js';
import { type ModelFolder, openModelFolder } from '../storage/model-folder.js';
import type { Stage } from './job-context.js';
import { withLanguageModel } from './open-language-model.js';
import type { QualityReference } from './quality-reference.js';

export interface QualityInput {
  readonly engine: Engine;
  /** The dense model's. */
  readonly folder: ModelFolder;
  /** Predictions of the dense model on held-out windows; read once for all results of a run. */
  readonly reference: QualityReference;
  /** Absolute path of the written folder. */
  readonly written: string;
  /** The model file in it. Default: the dense model's. */
  readonly file?: string | undefined;
}

/**
 * Compares predictions of the written model and the dense one on a few held-out windows: perplexities, divergence, and
 * top-1 agreement. One model is in memory at a time. A failed measurement is a remark, not an error: the written model
 * is valid without it.
 */
export const quality: Stage<QualityInput, QualityReport | undefined> = {
  name: 'quality',
  run: ({ platform, timed, remarks, onProgress, signal }, { engine, folder, reference, written: path, file }) =>
    timed('quality', async () => {
      try {
        let done = 0;
        const report = (total: number) => onProgress?.({ stage: 'quality', done: ++done, total });
        const { windows, from, leadingTokens, windowsAtOnce, predictions } = await reference.read((windowCount) =>
          report(2 * windowCount),
        );
        // The dense model has read its windows now, or for an earlier result.
        const total = done + windows.length;
        const onWindow = () => report(total);
        const written = await openModelFolder(platform, platform.files.resolve(path, file ?? folder.modelFile), folder);
        try {
          const site = { engine, windows, windowsAtOnce, onWindow, signal };
          const found = await withLanguageModel(engine, written, { signal }, (model) =>
            comparePredictions(model, predictions, site),
          );
          const windowLength = windows[0]!.length - leadingTokens.length;
          return {
            ...found,
            from,
            protocol: {
              tokensSha256: await sha256OfTokens(windows),
              windowLength,
              stride: windowLength,
              ...(leadingTokens.length > 0 && { leadingTokens }),
              windowCount: windows.length,
              tokenCount: windows.length * (windows[0]!.length - 1),
            },
          };
        } finally {
          await written.close();
        }
      } catch (error) {
        if (!(error instanceof FangPruneError)) throw error;
        remarks.push(`${UNMEASURED}: ${error.message}`);
        return undefined;
      }
    }),
};

const UNMEASURED = 'quality was not measured';
