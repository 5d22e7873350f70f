import type { ReadingOptions, TextWindows } from '../options/texts.js';
import type { JobControl } from '../progress.js';
import type { EngineChoice } from '../runtime/platform.js';
import type { SourceOptions } from '../storage/model-folder.js';
import type { Measured, TaskEncoding } from './measurements.js';

/** Measurements to make, and their models. */
export interface EvaluateRequest
  extends TextWindows,
    ReadingOptions,
    TaskEncoding,
    JobControl,
    SourceOptions,
    EngineChoice {
  /** Folders in transformers.js or onnxruntime-genai layout, or `.onnx` files. */
  readonly models: readonly string[];
  /** Text files, `.txt` or `.jsonl`, to measure perplexity on. */
  readonly texts?: readonly string[] | undefined;
  /** A model from which the others' divergence is measured on the texts. */
  readonly reference?: string | undefined;
  /** Task files, JSONL. */
  readonly tasks?: readonly string[] | undefined;
  /** Items of each task to measure, from the first. Default all. */
  readonly limit?: number | undefined;
  /**
   * File to which every score is saved. The same request with the same file resumes where the last one stopped and
   * ends with the figures of one run; a file of other models, texts, tasks or settings is refused. `limit` and
   * `windowCount` may grow.
   */
  readonly resume?: string | undefined;
}

/** Measurements of one model. */
export interface Evaluation extends Measured {
  /** Name in the request. */
  readonly model: string;
}
