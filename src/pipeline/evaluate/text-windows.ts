import { findLeadingTokens } from '../../calibration/leading-tokens.js';
import type { Tokenizer } from '../../calibration/tokenizer.js';
import type { WindowOptions } from '../../evaluation/scored-windows.js';
import type { TextWindows } from '../../options/texts.js';
import { contextLength, type ModelFolder } from '../../storage/model-folder.js';

/**
 * Windows for the library's stages: they begin with the tokens that the tokenizer puts before a text.
 * @param folders Models that read them; those of the shortest context decide.
 */
export function windowOptions(
  { windowLength, stride, windowCount }: TextWindows,
  tokenizer: Tokenizer,
  folders: readonly ModelFolder[],
): WindowOptions {
  const leadingTokens = findLeadingTokens(tokenizer);
  const contexts = folders.flatMap((folder) => contextLength(folder) ?? []);
  return {
    ...{ windowLength, stride, windowCount },
    ...(leadingTokens.length > 0 && { leadingTokens }),
    ...(contexts.length > 0 && { contextLength: Math.min(...contexts) }),
  };
}
