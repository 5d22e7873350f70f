import { findLeadingTokens } from '../calibration/leading-tokens.js';
import type { Tokenizer } from '../calibration/tokenizer.js';
import type { WindowOptions } from '../evaluation/scored-windows.js';
import type { TextWindows } from '../options/texts.js';
import { longestWindowOf, type ModelFolder } from '../storage/model-folder.js';

/**
 * Window options for texts: windows begin with the tokenizer's leading tokens.
 * @param folders Models that read them; no window is longer than all of them can read.
 */
export async function windowOptions(
  { windowLength, stride, windowCount }: TextWindows,
  tokenizer: Tokenizer,
  folders: readonly ModelFolder[],
): Promise<WindowOptions> {
  const leadingTokens = findLeadingTokens(tokenizer);
  const contextLength = await longestWindowOf(folders);
  return {
    windowLength,
    stride,
    windowCount,
    ...(leadingTokens.length > 0 && { leadingTokens }),
    ...(contextLength !== undefined && { contextLength }),
  };
}
