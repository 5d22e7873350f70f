import { sha256 } from '../../calibration/sha256.js';
import type { PerplexityResult } from '../../evaluation/perplexity.js';
import { readKept } from '../../platform/journal.js';
import { partOfProgress } from '../../progress.js';
import { perplexityMetric } from '../../report/perplexity-metric.js';
import type { PruneReport } from '../../report/report-schema.js';
import type { Engine } from '../../runtime/engine.js';
import type { ModelFolder } from '../../storage/model-folder.js';
import { measureTexts, type PreparedText } from '../evaluate/text-evaluation.js';
import { type JobContext, type Stage, withPart } from '../job-context.js';
import { openLanguageModel } from '../open-language-model.js';
import { open } from './open.js';

export interface EvaluateInput {
  readonly engine: Engine;
  /** The dense model's. */
  readonly folder: ModelFolder;
  readonly texts: readonly PreparedText[];
  /** Of results that were written. */
  readonly reports: readonly PruneReport[];
}

/**
 * Adds the perplexity of the dense model, measured once, and of each pruned one to the reports of what was written. One
 * model is in memory at a time.
 * @throws NumericalError, EngineError; the signal's reason when aborted.
 */
export const evaluate: Stage<EvaluateInput, readonly PruneReport[]> = {
  name: 'evaluate',
  async run(context, { engine, folder, texts, reports }) {
    if (reports.every(({ metrics }) => metrics !== undefined)) return reports;
    const { resolve } = context.platform.files;
    const measure = measureWith(context, { engine, texts, modelCount: 1 + reports.length });
    const dense = await measure(async () => folder, 0);
    const evaluated: PruneReport[] = [];
    for (const [at, report] of reports.entries()) {
      const model = resolve(report.out!, report.dtypes?.[0]?.file ?? folder.modelFile);
      const { embeddings } = folder;
      const pruned = await withPart(context, (part) => measure(() => open.run(part, { model, embeddings }), 1 + at));
      evaluated.push({
        ...report,
        metrics: texts.map(({ name }, text) => perplexityMetric(name, dense.results[text]!, pruned.results[text]!)),
        timings: [...report.timings, { stage: 'evaluate', ms: dense.ms + pruned.ms }],
      });
    }
    return evaluated;
  },
};

interface Measured {
  readonly results: readonly PerplexityResult[];
  readonly ms: number;
}

function measureWith(
  { journal, onProgress, signal }: JobContext,
  { engine, texts, modelCount }: Pick<EvaluateInput, 'engine' | 'texts'> & { readonly modelCount: number },
) {
  return async (openFolder: () => Promise<ModelFolder>, index: number): Promise<Measured> => {
    signal?.throwIfAborted();
    // A text may have changed under its name.
    const name = `evaluation-${index}-${await sha256(texts.map(({ textSha256 }) => textSha256).join())}`;
    const kept = await readKept<Measured>(journal, name);
    if (kept !== undefined) return kept;
    const listener = onProgress && partOfProgress(onProgress, index, modelCount);
    const start = performance.now();
    const model = await openLanguageModel(engine, await openFolder());
    try {
      const results = await measureTexts(model, texts, { onProgress: listener, signal });
      const measured = { results, ms: performance.now() - start };
      await journal?.write(name, [measured]);
      return measured;
    } finally {
      await model.release();
    }
  };
}
