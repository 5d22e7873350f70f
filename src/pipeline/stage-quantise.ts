import type { PruneJob, PruneOutcome } from '../prune/job.js';
import { writeCoded } from '../prune/write-coded.js';
import { type DtypeRequest, type WrittenDtype, writeDtype } from '../prune/write-dtype.js';
import { analyseModel } from '../runtime/analyse-model.js';
import type { Stage } from './job-context.js';

export interface QuantiseInput {
  /** Job of the dense model. */
  readonly job: PruneJob;
  readonly outcome: Pick<PruneOutcome, 'model' | 'modules' | 'changed'>;
  /** Without a dtype: the form of the source model. */
  readonly request: Omit<DtypeRequest, 'dtype' | 'dense' | 'change'> & Partial<Pick<DtypeRequest, 'dtype'>>;
}

/**
 * Writes a result in a dtype; without one, a quantised model keeps its form.
 * @see writeDtype @see writeCoded
 */
export const quantise: Stage<QuantiseInput, WrittenDtype> = {
  name: 'quantise',
  async run({ timings, remarks, onProgress, signal }, { job, outcome, request }) {
    const { model, modules } = outcome;
    onProgress?.({ stage: 'analyse-result', done: 0, total: 1 });
    // For sizes alone the shapes of the weights suffice.
    const onlySizes = request.rounding === 'none';
    const analysed = modules.length === 0 || onlySizes ? job.analysed : await analyseModel(model, job.engine, signal);
    if (request.rounding !== 'calibrated') onProgress?.({ stage: 'quantise', done: 0, total: 1 });
    // A scope, since segments differ from those of pruning.
    const journal = job.journal?.within('quantised');
    const resultJob = { ...job, model, analysed, journal, options: { ...job.options, onProgress } };
    const dense = { model: job.model, analysed: job.analysed };
    const { dtype } = request;
    const written =
      dtype === undefined
        ? await writeCoded(resultJob, dense, { change: outcome, rounding: request.rounding })
        : await writeDtype(resultJob, { ...request, dense, change: outcome, dtype });
    timings.push(...written.timings.map(({ stage, ms }) => ({ stage: `quantise: ${stage}`, ms })));
    remarks.push(...written.remarks);
    return written;
  },
};
