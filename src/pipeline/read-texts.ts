import { readDocuments } from '../calibration/token-source.js';
import { OptionError } from '../errors.js';
import type { Files } from '../runtime/platform.js';
import { isJsonl, readLines, readText } from '../storage/read-text.js';
import { withTextContext } from './with-text-context.js';

/**
 * Reads a text: an entire file, or the texts of a `.jsonl` file with an empty line between them.
 * @throws OptionError, also for token ids, which cannot be counted in bytes or encoded by another tokenizer.
 */
export async function readTexts(files: Files, path: string): Promise<string> {
  if (!isJsonl(path)) return readText(files, path);
  return withTextContext(path, async () => {
    const texts: string[] = [];
    for await (const { place, content } of readDocuments({ jsonl: readLines(files, path) })) {
      if (typeof content !== 'string')
        throw new OptionError(`${place} contains token ids ("input_ids"); expected a text: {"text": "..."}`);
      texts.push(content);
    }
    return texts.join('\n\n');
  });
}
