import { findLeadingTokens } from '../calibration/leading-tokens.js';
import { EngineError } from '../errors.js';
import { measureTextPerplexity } from '../evaluation/perplexity.js';
import type { Progress } from '../progress.js';
import type { TrimmingCost } from '../report/report-schema.js';
import type { Engine } from '../runtime/engine.js';
import { checkpoint } from '../runtime/journal.js';
import { requireTokenizer } from '../storage/load-tokenizer.js';
import type { ModelFolder } from '../storage/model-folder.js';
import { certifyTrimming } from './certify-trimming.js';
import type { JobContext } from './job-context.js';
import { withLanguageModel } from './open-language-model.js';
import type { PruneRequest } from './prune-request.js';
import type { TrimmedFolder } from './trimmed-folder.js';
import type { ResultVocabulary } from './write-result.js';

interface TrimmedInput {
  readonly original: ModelFolder;
  readonly trimmed: TrimmedFolder;
  readonly engine: Engine;
}

/** Compares a model whose vocabulary was trimmed in memory with the original. */
export async function compareTrimmed(
  context: JobContext,
  { request, ...input }: TrimmedInput & { readonly request: Pick<PruneRequest, 'certify' | 'evaluation'> },
): Promise<ResultVocabulary> {
  const { original: folder, engine } = input;
  const { folder: trimmed, keep, report } = input.trimmed;
  const certificate =
    request.certify === false ? undefined : await certifyTrimming(context, { folder, trimmed, engine, keep });
  const bitsPerByte = request.evaluation === false ? undefined : await measureTrimmingCost(context, input);
  return { keep, report: { ...report, ...(bitsPerByte && { bitsPerByte }), ...(certificate && { certificate }) } };
}

/** Limit of characters to read, from the end of the text: a small model reads them in seconds. */
const MAX_CHARACTERS = 8192;

/** Shorter texts are replaced by the bundled one. */
const MIN_CHARACTERS = 1024;

const WINDOW_LENGTH = 512;

/**
 * Measures the cost of trimming a vocabulary in bits per byte, on text that did not influence the remaining tokens.
 * @returns undefined if the original does not run here
 */
async function measureTrimmingCost(
  { timed, onProgress, signal, journal, remarks }: JobContext,
  { original, trimmed: { folder: trimmed, unseen = '' }, engine }: TrimmedInput,
): Promise<TrimmingCost | undefined> {
  const isFromSource = unseen.length >= MIN_CHARACTERS;
  const text = isFromSource
    ? unseen.slice(-MAX_CHARACTERS)
    : (await import('../evaluation/held-out-text.js')).HELD_OUT_TEXTS.join('\n');
  const longest = (await original.longestWindow()) ?? WINDOW_LENGTH;
  const measure = async (folder: ModelFolder, index: number): Promise<number | undefined> => {
    const tokenizer = await requireTokenizer(folder, 'bits per byte');
    const room = Math.min(WINDOW_LENGTH, longest) - findLeadingTokens(tokenizer).length;
    const windowLength = Math.max(2, Math.min(room, tokenizer.encode(text).length));
    const listener = ({ done, total, ...step }: Progress) =>
      onProgress?.({ ...step, done: done + index * total, total: 2 * total });
    const options = { windowLength, signal, onProgress: listener };
    const { bitsPerByte } = await withLanguageModel(engine, folder, { signal }, (model) =>
      measureTextPerplexity(model, { text, tokenizer }, options),
    );
    return bitsPerByte;
  };
  const measureBoth = async (): Promise<TrimmingCost | null> => {
    const before = await measure(original, 0);
    const after = await measure(trimmed, 1);
    if (before === undefined || after === undefined) return null;
    const textBytes = new TextEncoder().encode(text).byteLength;
    return { before, after, from: isFromSource ? 'source' : 'text', textBytes };
  };
  try {
    return (
      (await timed('perplexity', () => checkpoint(journal, 'vocabulary-price', { make: measureBoth }))) ?? undefined
    );
  } catch (error) {
    if (!(error instanceof EngineError)) throw error;
    remarks.push(
      `the cost of the smaller vocabulary was not measured, since the model does not run here: ${error.message}`,
    );
    return undefined;
  }
}
