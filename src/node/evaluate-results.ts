import { join } from 'node:path';
import type { PerplexityResult } from '../evaluation/perplexity.js';
import { type JobControl, partOfProgress } from '../progress.js';
import type { MetricReport, PruneReport } from '../report/report-schema.js';
import type { Engine } from '../runtime/engine.js';
import type { ModelFolder } from './model-folder.js';
import { openLanguageModel } from './open-language-model.js';
import { measureTexts, type PreparedText } from './text-evaluation.js';
import { withModelFolder } from './with-model-folder.js';

export interface ResultsEvaluation extends JobControl {
  readonly engine: Engine;
  /** The dense model's. */
  readonly folder: ModelFolder;
  readonly texts: readonly PreparedText[];
}

/**
 * Adds the perplexity of the dense model, measured once, and of each pruned one to the reports of what was written. One
 * model is in memory at a time.
 * @throws NumericalError, EngineError; the signal's reason when aborted.
 */
export async function evaluateResults(
  reports: readonly PruneReport[],
  { engine, folder, texts, onProgress, signal }: ResultsEvaluation,
): Promise<readonly PruneReport[]> {
  const modelCount = 1 + reports.length;
  const measure = async (model: ModelFolder, index: number): Promise<Measured> => {
    signal?.throwIfAborted();
    const listener = onProgress && partOfProgress(onProgress, index, modelCount);
    const start = performance.now();
    const opened = await openLanguageModel(engine, model);
    try {
      const results = await measureTexts(opened, texts, { onProgress: listener, signal });
      return { results, ms: performance.now() - start };
    } finally {
      await opened.release();
    }
  };
  const dense = await measure(folder, 0);
  const evaluated: PruneReport[] = [];
  for (const [at, report] of reports.entries()) {
    const path = join(report.out!, folder.modelFile);
    const pruned = await withModelFolder(path, folder, (written) => measure(written, 1 + at));
    evaluated.push({
      ...report,
      metrics: texts.map(({ name }, text) => perplexityMetric(name, dense.results[text]!, pruned.results[text]!)),
      timings: [...report.timings, { stage: 'evaluate', ms: dense.ms + pruned.ms }],
    });
  }
  return evaluated;
}

interface Measured {
  readonly results: readonly PerplexityResult[];
  readonly ms: number;
}

function perplexityMetric(name: string, dense: PerplexityResult, pruned: PerplexityResult): MetricReport {
  return {
    kind: 'perplexity',
    name,
    dense: dense.perplexity,
    pruned: pruned.perplexity,
    better: 'lower',
    protocol: pruned.protocol,
  };
}
