import type { Tokenizer } from '../../calibration/tokenizer.js';
import type { WindowOptions } from '../../evaluation/scored-windows.js';
import { refusal } from '../../options/option.js';
import type { TextWindows } from '../../options/texts.js';

/** The same for the library's stages. @throws OptionError when BOS is asked for and there is none. */
export function windowOptions(
  { windowLength, stride, windowCount, bos }: TextWindows,
  { bosTokenId }: Tokenizer,
): WindowOptions {
  if (bos && bosTokenId === undefined) {
    throw refusal('bos', 'was asked for, but the tokenizer has no token that begins a text');
  }
  return { windowLength, stride, windowCount, bosTokenId: bos ? bosTokenId : undefined };
}
