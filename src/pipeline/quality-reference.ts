import { findLeadingTokens } from '../calibration/leading-tokens.js';
import type { Tokenizer } from '../calibration/tokenizer.js';
import { concatenate } from '../concatenate.js';
import { OptionError } from '../errors.js';
import { type ReferencePredictions, readReference } from '../evaluation/compare-predictions.js';
import type { HeldOutWindows } from '../evaluation/held-out-windows.js';
import type { QualityReport } from '../report/report-schema.js';
import type { AnalysedModel } from '../runtime/analyse-model.js';
import type { Engine } from '../runtime/engine.js';
import { findTokenizer } from '../storage/load-tokenizer.js';
import type { ModelFolder } from '../storage/model-folder.js';
import type { JobContext } from './job-context.js';
import { withLanguageModel } from './open-language-model.js';
import { explainTooLarge } from './refuse-too-large.js';
import { storeFactory } from './store-factory.js';

/** Largest bytes of the dense model's logits kept for comparison, and least number of windows for a standard error. */
const MAX_LOGITS = 2 ** 29;
const MIN_WINDOWS = 3;

/** Predictions of the dense model on held-out windows. */
export interface DensePredictions {
  readonly windows: readonly Int32Array[];
  readonly from: QualityReport['from'];
  /** The tokenizer's leading tokens, with which every window begins. */
  readonly leadingTokens: readonly number[];
  /** See `PredictionSite`. */
  readonly windowsAtOnce: number;
  readonly predictions: ReferencePredictions;
}

/** Runs the dense model on held-out windows lazily, once. */
export interface QualityReference {
  /**
   * @param onWindow called after each newly read window, with the total
   * @throws OptionError without text, or with a tokenizer that does not fit the model; EngineError, NumericalError,
   * UnsupportedModelError
   */
  read(onWindow?: (windowCount: number) => void): Promise<DensePredictions>;
}

export interface ReferenceInput {
  readonly engine: Engine;
  /** The dense model's. */
  readonly folder: ModelFolder;
  readonly analysed: AnalysedModel;
  readonly heldOut: () => Promise<HeldOutWindows>;
}

/** @param context context of the part of the job whose results are compared; the logits are freed at its end */
export function createQualityReference(context: JobContext, input: ReferenceInput): QualityReference {
  let reading: Promise<DensePredictions> | undefined;
  return {
    read(onWindow) {
      reading ??= readDense(context, input, onWindow);
      return reading;
    },
  };
}

async function readDense(
  context: JobContext,
  { engine, folder, analysed, heldOut }: ReferenceInput,
  onWindow: (windowCount: number) => void = () => {},
): Promise<DensePredictions> {
  const { signal, onEnd } = context;
  const { windows: found, from } = await heldOut();
  const tokenizer = await findTokenizer(folder);
  const { vocabularySize } = analysed.detected.layout;
  if (from === 'random') throw explainNoText(tokenizer, vocabularySize);
  const leadingTokens = findLeadingTokens(tokenizer);
  const room = ((await folder.longestWindow()) ?? Number.POSITIVE_INFINITY) - leadingTokens.length;
  const windowBytes = found[0]!.length * vocabularySize * Float32Array.BYTES_PER_ELEMENT;
  const fitting = Math.floor(MAX_LOGITS / windowBytes);
  // Each run of a model that does not fit in memory reads its weights again.
  const isTooLarge = (await explainTooLarge(engine, folder)) !== undefined;
  const count = isTooLarge ? MIN_WINDOWS : Math.max(MIN_WINDOWS, fitting);
  const windowsAtOnce = isTooLarge ? Math.max(1, fitting) : 1;
  const windows = found
    .slice(0, count)
    .map((window) => concatenate(Int32Array, [leadingTokens, window.subarray(0, room)]));
  const store = await storeFactory(context, windowBytes)(windows.length);
  onEnd(() => store.dispose());
  const site = { engine, windows, windowsAtOnce, onWindow: () => onWindow(windows.length), signal };
  const predictions = await withLanguageModel(engine, folder, { signal }, (model) => readReference(model, store, site));
  return { windows, from, leadingTokens, windowsAtOnce, predictions };
}

const explainNoText = (tokenizer: Tokenizer | undefined, vocabularySize: number): OptionError =>
  new OptionError(
    tokenizer === undefined
      ? 'there is no tokenizer, and no calibration window'
      : `there is no calibration window, and tokenizer.json has ids up to ${tokenizer.vocabularySize - 1}, where the model's vocabulary ends at ${vocabularySize - 1}; put the model's own tokenizer.json next to it`,
  );
