import { findLeadingTokens } from '../../calibration/leading-tokens.js';
import type { Tokenizer } from '../../calibration/tokenizer.js';
import type { WindowOptions } from '../../evaluation/scored-windows.js';
import type { TextWindows } from '../../options/texts.js';

/** Windows for the library's stages: they begin with the tokens that the tokenizer puts before a text. */
export function windowOptions({ windowLength, stride, windowCount }: TextWindows, tokenizer: Tokenizer): WindowOptions {
  const leadingTokens = findLeadingTokens(tokenizer);
  return { windowLength, stride, windowCount, ...(leadingTokens.length > 0 && { leadingTokens }) };
}
