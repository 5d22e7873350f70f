import type { TokenSource } from '../calibration/token-source.js';
import { findHeldOutWindows, type HeldOutWindows } from '../evaluation/held-out-windows.js';
import type { CalibrationSource } from '../options.js';
import type { AnalysedModel } from '../runtime/analyse-model.js';
import type { Platform } from '../runtime/platform.js';
import { findTokenizer } from '../storage/load-tokenizer.js';
import type { ModelFolder } from '../storage/model-folder.js';
import { openTextSource } from '../storage/read-text.js';
import type { JobContext } from './job-context.js';

/** Number of held-out windows: enough to detect the cost of pruning within seconds. */
export const HELD_OUT = { windowCount: 8, windowLength: 128 };

export interface HeldOutInput {
  /** The dense model's. */
  readonly folder: ModelFolder;
  readonly analysed: AnalysedModel;
  /** Calibration windows of the run. */
  readonly windows: readonly Int32Array[];
  /** The user's calibration source; absent: the bundled text. */
  readonly source?: CalibrationSource | undefined;
}

/** Finds a run's held-out windows lazily, once for all callers. */
export function deferHeldOutWindows(
  { platform, signal }: JobContext,
  input: HeldOutInput,
): () => Promise<HeldOutWindows> {
  let found: Promise<HeldOutWindows> | undefined;
  const find = async () => {
    const { folder, analysed, windows, source } = input;
    const longest = (await folder.longestWindow()) ?? HELD_OUT.windowLength;
    return findHeldOutWindows({
      ...HELD_OUT,
      windowLength: Math.min(HELD_OUT.windowLength, longest),
      calibration: windows,
      source: await openAgain(platform, source),
      tokenizer: await findTokenizer(folder),
      vocabularySize: analysed.detected.layout.vocabularySize,
      signal,
    });
  };
  return () => {
    found ??= find();
    return found;
  };
}

/** A source that can be read again from its start; undefined otherwise. */
async function openAgain({ files }: Platform, source: CalibrationSource | undefined): Promise<TokenSource | undefined> {
  if (source === undefined) return undefined;
  if ('file' in source) return openTextSource(files, source.file, false).catch(() => undefined);
  const [content] = Object.values(source) as unknown[];
  const isInMemory = typeof content === 'string' || Array.isArray(content) || ArrayBuffer.isView(content);
  return isInMemory ? source : undefined;
}
