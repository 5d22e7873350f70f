import type { PruneJob, PruneOutcome } from '../../prune/job.js';
import { type DtypeRequest, type WrittenDtype, writeDtype } from '../../prune/quantise/write-dtype.js';
import { analyseModel } from '../../runtime/analyse-model.js';
import type { Stage } from '../job-context.js';

export interface QuantiseInput {
  /** Of the dense model. */
  readonly job: PruneJob;
  readonly outcome: Pick<PruneOutcome, 'model' | 'modules'>;
  readonly request: DtypeRequest;
}

/** Writes a result in the form of a dtype. @see writeDtype */
export const quantise: Stage<QuantiseInput, WrittenDtype> = {
  name: 'quantise',
  async run({ timings, remarks, onProgress, signal }, { job, outcome, request }) {
    const { model, modules } = outcome;
    const analysed = modules.length === 0 ? job.analysed : await analyseModel(model, job.engine, signal);
    const named =
      onProgress && ((event: Parameters<typeof onProgress>[0]) => onProgress({ ...event, stage: 'quantise' }));
    const written = await writeDtype(
      { ...job, model, analysed, options: { ...job.options, onProgress: named } },
      request,
    );
    timings.push(...written.timings.map(({ stage, ms }) => ({ stage: `quantise: ${stage}`, ms })));
    remarks.push(...written.remarks);
    return written;
  },
};
