import { sha256 } from '../calibration/sha256.js';
import type { Tokenizer } from '../calibration/tokenizer.js';
import { encodePrompt } from '../evaluation/generate.js';
import type { LanguageModel } from '../evaluation/language-model.js';
import { measurePerplexity, type PerplexityResult } from '../evaluation/perplexity.js';
import { cutScoredWindows, resolveWindows, tokensNeeded, type WindowOptions } from '../evaluation/scored-windows.js';
import type { TextEvaluation } from '../options/texts.js';
import type { JobControl } from '../progress.js';
import { requireTokenizer } from '../storage/load-tokenizer.js';
import type { ModelFolder } from '../storage/model-folder.js';
import { readTexts } from './read-texts.js';
import { windowOptions } from './text-windows.js';
import { withTextContext } from './with-text-context.js';

/** A tokenized text. */
export interface PreparedText {
  /** Its path as given. */
  readonly name: string;
  readonly tokens: Int32Array;
  readonly textSha256: string;
  readonly windows: WindowOptions;
  /** See `PerplexityOptions`. */
  readonly countBytes?: Tokenizer['countBytes'];
  /** Number of windows to score. */
  readonly windowCount: number;
}

/** Reads and encodes texts, and checks texts and prompts. @throws OptionError, naming the text */
export async function prepareTexts(request: TextEvaluation, folder: ModelFolder): Promise<readonly PreparedText[]> {
  const { texts = [], prompts = [] } = request;
  const tokenizer = await requireTokenizer(folder, 'perplexity on a text');
  const contextLength = await folder.longestWindow();
  for (const prompt of prompts) encodePrompt({ tokenizer, prompt, contextLength });
  const prepared: PreparedText[] = [];
  for (const name of new Set(texts)) {
    const text = await readTexts(folder.platform.files, name);
    prepared.push(await withTextContext(name, () => prepareText({ name, text, tokenizer, folder }, request)));
  }
  return prepared;
}

/** Tokens to read of all texts. */
export function countTokens(texts: readonly PreparedText[] = []): number {
  return texts.reduce((sum, { windows, windowCount }) => sum + windowCount * (windows.windowLength ?? 0), 0);
}

interface RawText {
  readonly name: string;
  readonly text: string;
  readonly tokenizer: Tokenizer;
  /** The model's. */
  readonly folder: ModelFolder;
}

async function prepareText({ name, text, tokenizer, folder }: RawText, request: TextEvaluation): Promise<PreparedText> {
  const tokens = Int32Array.from(tokenizer.encode(text, { enough: tokensNeeded(request) }));
  const given = await windowOptions(request, tokenizer, [folder]);
  const shape = resolveWindows(given, tokens.length);
  const windows = { ...given, windowLength: shape.windowLength };
  const windowCount = cutScoredWindows(tokens, shape).slice(0, request.windowCount).length;
  const { countBytes } = tokenizer;
  return { name, tokens, textSha256: await sha256(text), windows, windowCount, ...(countBytes && { countBytes }) };
}

/** Tokens of a text that a measurement reads, window by window. */
export const tokensMeasured = ({ tokens, windows, windowCount }: PreparedText): Int32Array[] =>
  cutScoredWindows(tokens, resolveWindows(windows, tokens.length))
    .slice(0, windowCount)
    .map((window) => window.tokens);

/** Perplexities of one model, in the order of the texts. @throws NumericalError, EngineError */
export async function measureTexts(
  model: LanguageModel,
  texts: readonly PreparedText[],
  { onProgress, signal }: JobControl,
): Promise<readonly PerplexityResult[]> {
  const total = countWindows(texts);
  const results: PerplexityResult[] = [];
  let before = 0;
  for (const { name, tokens, textSha256, windows, countBytes, windowCount } of texts) {
    const done = before;
    const listener: JobControl['onProgress'] =
      onProgress && ((step) => onProgress({ stage: 'evaluate', done: done + step.done, total, detail: name }));
    const options = { ...windows, countBytes, onProgress: listener, signal };
    const result = await measurePerplexity(model, tokens, options);
    results.push({ ...result, protocol: { ...result.protocol, textSha256 } });
    before += windowCount;
  }
  return results;
}

/** Windows to score of all texts. */
export const countWindows = (texts: readonly PreparedText[]): number =>
  texts.reduce((sum, { windowCount }) => sum + windowCount, 0);
