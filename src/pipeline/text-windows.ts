import { findLeadingTokens } from '../calibration/leading-tokens.js';
import type { Tokenizer } from '../calibration/tokenizer.js';
import type { WindowOptions } from '../evaluation/scored-windows.js';
import type { TextWindows } from '../options/texts.js';
import { contextLength, type ModelFolder } from '../storage/model-folder.js';

/**
 * Window options for texts: windows begin with the tokenizer's leading tokens.
 * @param folders Models that read them; the shortest context length applies.
 */
export function windowOptions(
  { windowLength, stride, windowCount }: TextWindows,
  tokenizer: Tokenizer,
  folders: readonly ModelFolder[],
): WindowOptions {
  const leadingTokens = findLeadingTokens(tokenizer);
  const contexts = folders.flatMap((folder) => contextLength(folder) ?? []);
  return {
    windowLength,
    stride,
    windowCount,
    ...(leadingTokens.length > 0 && { leadingTokens }),
    ...(contexts.length > 0 && { contextLength: Math.min(...contexts) }),
  };
}
