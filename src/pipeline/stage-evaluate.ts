import { sha256 } from '../calibration/sha256.js';
import { generateText } from '../evaluation/generate.js';
import type { LanguageModel } from '../evaluation/language-model.js';
import type { PerplexityResult } from '../evaluation/perplexity.js';
import type { JobControl, Progress } from '../progress.js';
import { type MeasuredPerplexity, perplexityMetric } from '../report/perplexity-metric.js';
import type { PruneReport } from '../report/report-schema.js';
import type { Engine } from '../runtime/engine.js';
import { checkpoint } from '../runtime/journal.js';
import { requireTokenizer } from '../storage/load-tokenizer.js';
import type { ModelFolder } from '../storage/model-folder.js';
import { type JobContext, type Stage, withPart } from './job-context.js';
import { withLanguageModel } from './open-language-model.js';
import { open } from './stage-open.js';
import { countWindows, measureTexts, type PreparedText } from './text-evaluation.js';

export interface EvaluateInput {
  readonly engine: Engine;
  /** The dense model's. */
  readonly folder: ModelFolder;
  readonly texts: readonly PreparedText[];
  /** The texts tokenized for the results, whose vocabulary may be trimmed. Default: as for the dense model. */
  readonly resultTexts?: readonly PreparedText[] | undefined;
  /** Prompts that both models continue, and the number of tokens. */
  readonly samples: SampleRequest;
  /** Reports of written results. */
  readonly reports: readonly PruneReport[];
}

/** Prompts and the number of tokens to generate. */
export interface SampleRequest {
  /** Prompt texts. */
  readonly prompts: readonly string[];
  /** Tokens to generate after each. */
  readonly newTokens: number;
}

/**
 * Adds perplexities and generated samples to the reports of written results. The dense model is measured once, and one
 * model is in memory at a time.
 * @throws NumericalError, EngineError; the signal's reason when aborted.
 */
export const evaluate: Stage<EvaluateInput, readonly PruneReport[]> = {
  name: 'evaluate',
  async run(context, { engine, folder, texts, resultTexts = texts, samples, reports }) {
    const { prompts } = samples;
    if (reports.every((report) => isEvaluated(report, { texts, prompts }))) return reports;
    const { resolve } = context.platform.files;
    const measure = measureWith(context, { engine, samples, modelCount: 1 + reports.length });
    const dense = await measure(async () => folder, texts, 0);
    const evaluated: PruneReport[] = [];
    for (const [at, report] of reports.entries()) {
      const model = resolve(report.out!, report.dtypes?.[0]?.file ?? folder.modelFile);
      const { embeddings, bos } = folder;
      const pruned = await withPart(context, (part) =>
        measure(() => open.run(part, { model, embeddings, bos }), resultTexts, 1 + at),
      );
      const compared = (text: number) =>
        inDenseTokens(dense.results[text]!, pruned.results[text]!, resultTexts !== texts);
      evaluated.push({
        ...report,
        ...(texts.length > 0 && {
          metrics: texts.map(({ name }, text) => perplexityMetric(name, dense.results[text]!, compared(text))),
        }),
        ...(prompts.length > 0 && {
          samples: prompts.map((prompt, at) => ({ prompt, dense: dense.written[at]!, pruned: pruned.written[at]! })),
        }),
        timings: [...report.timings, { stage: 'evaluate', ms: dense.ms + pruned.ms }],
      });
    }
    return evaluated;
  },
};

function isEvaluated(
  { metrics, samples }: PruneReport,
  { texts, prompts }: { texts: readonly unknown[]; prompts: readonly unknown[] },
) {
  return (metrics !== undefined || texts.length === 0) && (samples !== undefined || prompts.length === 0);
}

/** Converts the perplexity of a model with a trimmed vocabulary to the dense model's tokens, by bits per byte. */
function inDenseTokens(dense: PerplexityResult, pruned: PerplexityResult, isTrimmed: boolean): MeasuredPerplexity {
  if (!isTrimmed || dense.bitsPerByte === undefined || pruned.bitsPerByte === undefined) return pruned;
  const { windows: _, ...rest } = pruned;
  return { ...rest, perplexity: dense.perplexity ** (pruned.bitsPerByte / dense.bitsPerByte) };
}

interface Measured {
  readonly results: readonly PerplexityResult[];
  /** Text that the model generates after each prompt. */
  readonly written: readonly string[];
  readonly ms: number;
}

function measureWith(
  { journal, onProgress, signal }: JobContext,
  { engine, samples, modelCount }: Pick<EvaluateInput, 'engine' | 'samples'> & { readonly modelCount: number },
) {
  return async (
    openFolder: () => Promise<ModelFolder>,
    texts: readonly PreparedText[],
    index: number,
  ): Promise<Measured> => {
    signal?.throwIfAborted();
    // The text of a path may have changed.
    const measured = [texts.map(({ textSha256 }) => textSha256), samples];
    const name = `evaluation-${index}-${await sha256(JSON.stringify(measured))}`;
    return checkpoint(journal, name, {
      async make() {
        onProgress?.({ stage: 'evaluate', done: 0, total: 1, detail: `model ${index + 1} of ${modelCount}` });
        const start = performance.now();
        const folder = await openFolder();
        return withLanguageModel(engine, folder, { signal }, async (model) => {
          const promptUnits = samples.prompts.length * unitsOfPrompt(samples);
          const listener = onProgress && ((step: Progress) => onProgress({ ...step, total: step.total + promptUnits }));
          const results = await measureTexts(model, texts, { onProgress: listener, signal });
          const written = await generateSamples(model, folder, { ...samples, signal, onProgress: listener, texts });
          return { results, written, ms: performance.now() - start };
        });
      },
    });
  };
}

/** Windows that take approximately as long as continuing a prompt. */
const unitsOfPrompt = ({ newTokens }: Pick<SampleRequest, 'newTokens'>): number =>
  Math.max(1, Math.round(newTokens / 16));

async function generateSamples(
  model: LanguageModel,
  folder: ModelFolder,
  { prompts, newTokens, signal, onProgress, texts }: SampleRequest & JobControl & Pick<EvaluateInput, 'texts'>,
): Promise<string[]> {
  if (prompts.length === 0) return [];
  const tokenizer = await requireTokenizer(folder, 'writing text');
  const contextLength = await folder.longestWindow();
  const written: string[] = [];
  const total = countWindows(texts);
  const units = unitsOfPrompt({ newTokens });
  for (const [at, prompt] of prompts.entries()) {
    const options = { tokenizer, contextLength, prompt, newTokens, temperature: 0, signal };
    written.push(await generateText(model, options));
    onProgress?.({ stage: 'evaluate', done: total + (at + 1) * units, total, detail: 'prompts' });
  }
  return written;
}
