import { sha256 } from '../../calibration/sha256.js';
import { generateText } from '../../evaluation/generate.js';
import type { LanguageModel } from '../../evaluation/language-model.js';
import type { PerplexityResult } from '../../evaluation/perplexity.js';
import { checkpoint } from '../../platform/journal.js';
import type { JobControl, Progress } from '../../progress.js';
import { perplexityMetric } from '../../report/perplexity-metric.js';
import type { PruneReport } from '../../report/report-schema.js';
import type { Engine } from '../../runtime/engine.js';
import { requireTokenizer } from '../../storage/load-tokenizer.js';
import type { ModelFolder } from '../../storage/model-folder.js';
import { countWindows, measureTexts, type PreparedText } from '../evaluate/text-evaluation.js';
import { type JobContext, type Stage, withPart } from '../job-context.js';
import { openLanguageModel } from '../open-language-model.js';
import { open } from './open.js';

export interface EvaluateInput {
  readonly engine: Engine;
  /** The dense model's. */
  readonly folder: ModelFolder;
  readonly texts: readonly PreparedText[];
  /** What both models continue, and for how many tokens. */
  readonly samples: SampleRequest;
  /** Of results that were written. */
  readonly reports: readonly PruneReport[];
}

/** Prompts, and how far models continue them. */
export interface SampleRequest {
  /** Beginnings of texts. */
  readonly prompts: readonly string[];
  /** Tokens to write after each. */
  readonly newTokens: number;
}

/**
 * Adds the perplexity of the dense model, measured once, and of each pruned one, and what they write, to the reports of what was written. One
 * model is in memory at a time.
 * @throws NumericalError, EngineError; the signal's reason when aborted.
 */
export const evaluate: Stage<EvaluateInput, readonly PruneReport[]> = {
  name: 'evaluate',
  async run(context, { engine, folder, texts, samples, reports }) {
    const { prompts } = samples;
    if (reports.every((report) => isEvaluated(report, { texts, prompts }))) return reports;
    const { resolve } = context.platform.files;
    const measure = measureWith(context, { engine, texts, samples, modelCount: 1 + reports.length });
    const dense = await measure(async () => folder, 0);
    const evaluated: PruneReport[] = [];
    for (const [at, report] of reports.entries()) {
      const model = resolve(report.out!, report.dtypes?.[0]?.file ?? folder.modelFile);
      const { embeddings, bos } = folder;
      const pruned = await withPart(context, (part) =>
        measure(() => open.run(part, { model, embeddings, bos }), 1 + at),
      );
      evaluated.push({
        ...report,
        ...(texts.length > 0 && {
          metrics: texts.map(({ name }, text) => perplexityMetric(name, dense.results[text]!, pruned.results[text]!)),
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

interface Measured {
  readonly results: readonly PerplexityResult[];
  /** What the model writes after each prompt. */
  readonly written: readonly string[];
  readonly ms: number;
}

function measureWith(
  { journal, onProgress, signal }: JobContext,
  {
    engine,
    texts,
    samples,
    modelCount,
  }: Pick<EvaluateInput, 'engine' | 'texts' | 'samples'> & { readonly modelCount: number },
) {
  return async (openFolder: () => Promise<ModelFolder>, index: number): Promise<Measured> => {
    signal?.throwIfAborted();
    // A text may have changed under its name.
    const asked = [texts.map(({ textSha256 }) => textSha256), samples];
    const name = `evaluation-${index}-${await sha256(JSON.stringify(asked))}`;
    return checkpoint(journal, name, {
      async make() {
        onProgress?.({ stage: 'evaluate', done: 0, total: 1, detail: `model ${index + 1} of ${modelCount}` });
        const start = performance.now();
        const folder = await openFolder();
        const model = await openLanguageModel(engine, folder, { signal });
        try {
          const promptUnits = samples.prompts.length * unitsOfPrompt(samples);
          const listener = onProgress && ((step: Progress) => onProgress({ ...step, total: step.total + promptUnits }));
          const results = await measureTexts(model, texts, { onProgress: listener, signal });
          const written = await writeSamples(model, folder, { ...samples, signal, onProgress: listener, texts });
          return { results, written, ms: performance.now() - start };
        } finally {
          await model.release();
        }
      },
    });
  };
}

/** Windows that take as long as continuing a prompt, roughly. */
const unitsOfPrompt = ({ newTokens }: Pick<SampleRequest, 'newTokens'>): number =>
  Math.max(1, Math.round(newTokens / 16));

async function writeSamples(
  model: LanguageModel,
  folder: ModelFolder,
  { prompts, newTokens, signal, onProgress, texts }: SampleRequest & JobControl & Pick<EvaluateInput, 'texts'>,
): Promise<string[]> {
  if (prompts.length === 0) return [];
  const tokenizer = await requireTokenizer(folder, 'writing text');
  const written: string[] = [];
  const total = countWindows(texts);
  const units = unitsOfPrompt({ newTokens });
  for (const [at, prompt] of prompts.entries()) {
    const options = { tokenizer, prompt, newTokens, temperature: 0, ...(signal && { signal }) };
    written.push(await generateText(model, options));
    onProgress?.({ stage: 'evaluate', done: total + (at + 1) * units, total, detail: 'prompts' });
  }
  return written;
}
