import { readTokens } from '../calibration/token-source.js';
import type { Tokenizer } from '../calibration/tokenizer.js';
import { shareWeights } from '../onnx/share-weights.js';
import { refusal } from '../options/option.js';
import type { VocabularyOptions } from '../options/vocabulary.js';
import type { VocabularyReport } from '../report/report-schema.js';
import type { Files } from '../runtime/platform.js';
import { requireTokenizer } from '../storage/load-tokenizer.js';
import { type ModelFolder, modelPath, openLocated } from '../storage/model-folder.js';
import { openTextSource } from '../storage/read-text.js';
import { withChangedFiles } from '../storage/with-changed-files.js';
import { cutVocabulary } from '../vocabulary/cut-vocabulary.js';
import { traceVocabulary } from '../vocabulary/trace-vocabulary.js';
import { cutGraphs, remarkStale, remarkTokens, rewriteDocuments } from './apply-trimming.js';
import type { JobContext } from './job-context.js';
import { planTrimming } from './plan-trimming.js';
import { formatDocument } from './stage-save.js';

/** Token selection of a job, and its text. */
export interface JobVocabulary extends Omit<VocabularyOptions, 'texts'> {
  /** The user's text. Tokens of its first three quarters remain, unless `vocabulary` is given. */
  readonly text?: string | undefined;
}

/** A model whose vocabulary was trimmed in memory. */
export interface TrimmedFolder {
  /** Equivalent to a folder that `trimVocabulary` wrote. */
  readonly folder: ModelFolder;
  readonly report: VocabularyReport;
  /** Old ids by new ones. */
  readonly keep: Int32Array;
  /** The last quarter of the user's text, which does not affect the selection; absent without a text. */
  readonly unseen?: string | undefined;
}

/**
 * Trims the vocabulary of a model without writing: changed files are in memory, and removed rows are skipped when
 * tables are read.
 * @throws OptionError, ModelFormatError, UnsupportedModelError
 */
export async function trimInMemory(
  context: JobContext,
  folder: ModelFolder,
  { text, ...options }: JobVocabulary,
): Promise<TrimmedFolder> {
  const { platform, root, modelFile, embeddings, bos, hub } = folder;
  const tokenizer = text === undefined ? undefined : await requireTokenizer(folder, 'trimming a vocabulary');
  const parts = text === undefined ? undefined : await splitText(platform.files, text, tokenizer!);
  const seen = options.vocabulary === undefined ? parts?.seen : undefined;
  // Remarks about the model's files are added when it is loaded.
  const plan = await planTrimming({ ...context, remarks: [] }, folder, { ...options, seen });
  const { ids, report } = await cutGraphs(plan);
  const { documents, stale } = await rewriteDocuments(plan, ids);
  context.remarks.push(...remarkTokens(plan), ...remarkStale(stale));
  const encoder = new TextEncoder();
  const changed = new Map<string, Uint8Array | undefined>(stale.map((path) => [path, undefined]));
  for (const [path, document] of Object.entries(documents)) changed.set(path, encoder.encode(formatDocument(document)));
  const decoderPath = modelPath(folder);
  const trimmed = await openLocated(
    withChangedFiles(platform, root, changed),
    { root, modelFile, origin: hub },
    {
      embeddings,
      bos,
      changed: {
        parts: new Map([...plan.parts].map(([path, { model }]) => [path, model])),
        async change(model, path) {
          const shared = await shareWeights(model);
          cutVocabulary(shared, await traceVocabulary(shared, path === decoderPath ? 'decoder' : 'embedding'), ids);
          return shared;
        },
      },
    },
  );
  context.onEnd(() => trimmed.close());
  return { folder: trimmed, report, keep: plan.chosen.keep, unseen: parts?.unseen };
}

/** Fraction of the text whose tokens remain; the cost of trimming is measured on the rest. */
const TRAINING_SHARE = 3 / 4;

/** Limit of tokens: a tokenizer encodes them in about three seconds. */
const MAX_TOKENS = 2 ** 19;

interface SplitText {
  readonly seen: Int32Array;
  readonly unseen: string;
}

async function splitText(files: Files, path: string, tokenizer: Tokenizer): Promise<SplitText> {
  const tokens: number[] = [];
  const reading = { tokenizer, enough: MAX_TOKENS };
  for await (const document of readTokens(await openTextSource(files, path, false), reading)) {
    if (document.text === undefined)
      throw refusal(
        'text',
        `is ${path}, which contains token ids ("input_ids"), which are other tokens in the trimmed vocabulary; give texts`,
      );
    for (const id of document.tokens) tokens.push(id);
    if (tokens.length >= MAX_TOKENS) break;
  }
  const border = Math.ceil(tokens.length * TRAINING_SHARE);
  return { seen: Int32Array.from(tokens.slice(0, border)), unseen: tokenizer.decode(tokens.slice(border)) };
}
