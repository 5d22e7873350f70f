import { buildPruneReport, type ReportInput as Findings } from '../report/prune-report.js';
import type { PruneReport } from '../report/report-schema.js';
import type { Engine } from '../runtime/engine.js';
import { findTokenizer } from '../storage/load-tokenizer.js';
import type { ModelFolder } from '../storage/model-folder.js';
import { VERSION } from '../version.js';
import { describeEnvironment } from './describe-environment.js';
import type { Stage } from './job-context.js';

/** Inputs of a report without those of platform and job. */
export interface ReportInput
  extends Omit<Findings, 'version' | 'createdAt' | 'environment' | 'decode' | 'timings' | 'peakMemoryBytes'> {
  readonly folder: ModelFolder;
  readonly engine: Engine;
  /** Whether to quote calibration text. */
  readonly quoteText: boolean;
}

/** Builds a report. @see buildPruneReport */
export const report: Stage<ReportInput, PruneReport> = {
  name: 'report',
  async run({ platform, timings, remarks, notes }, { folder, engine, quoteText, ...findings }) {
    const tokenizer = quoteText ? await findTokenizer(folder) : undefined;
    return buildPruneReport({
      ...findings,
      version: VERSION,
      createdAt: new Date(),
      environment: describeEnvironment(platform, engine),
      outcome: { ...findings.outcome, remarks: [...remarks, ...notes] },
      decode: tokenizer && ((tokens) => tokenizer.decode(tokens)),
      timings,
      peakMemoryBytes: platform.peakMemoryBytes(),
    });
  },
};
