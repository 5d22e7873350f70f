import { ModelFormatError } from '../errors.js';
import type { TokenizerFile } from './tokenizer-file.js';

/** Models have some rows more than tokens, for tensors of round sizes; seen were 3 % at most. */
const LEAST_SHARE = 0.9;

/**
 * Checks that a tokenizer is the model's. Rows behind the last token, and added tokens behind the last row, are usual.
 * @throws ModelFormatError
 */
export function checkTokenizerFits({ contents, modelIds, addedIds }: TokenizerFile, rows: number): void {
  let largest = -1;
  for (const id of modelIds.values()) if (!addedIds.has(id)) largest = Math.max(largest, id);
  const excess = largest >= rows ? ` and the token ${JSON.stringify(contents[largest])} the id ${largest}` : '';
  if (excess === '' && contents.length >= LEAST_SHARE * rows) return;
  throw new ModelFormatError(
    `tokenizer.json has ${contents.length} tokens${excess}, and the model ${rows} rows of the vocabulary: it is another model's; put the model's own tokenizer.json next to it`,
  );
}
