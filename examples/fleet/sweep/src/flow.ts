import type { FlowJob } from 'bullmq';
import type { EvaluateData, PruneData, TableData } from './jobs.js';
import { QUEUE, type Sweep } from './sweep.js';

/**
 * Five attempts: whatever is cut off resumes, so that an attempt costs little. A job that has none left fails those that wait for it.
 */
const OPTIONS = {
  attempts: 5,
  backoff: { type: 'exponential', delay: 2000 },
  failParentOnFailure: true,
  removeOnComplete: { age: 7 * 24 * 3600 },
} as const;

/**
 * The jobs of a sweep. The table waits for all evaluations, and each of these for the ladder that makes its models; a ladder measures its dense
 * model once for all sparsities. Jobs carry paths and figures alone.
 * @param out Folder for all results.
 */
export function createFlow(
  { models, methods, sparsities, texts, calibration, evaluation }: Sweep,
  out: string,
): FlowJob {
  const evaluate = (data: Pick<EvaluateData, 'model' | 'method' | 'folder'>, children: FlowJob[]): FlowJob => ({
    ...job('evaluate', { ...data, texts, evaluation } satisfies EvaluateData),
    children,
  });
  return {
    ...job('table', { models, out } satisfies TableData),
    children: models.flatMap((model, at) => {
      const folder = `${out}/${at}-${model.split('/').at(-1)}`;
      return [
        evaluate({ model, folder }, []),
        ...methods.map((method) => {
          const own = `${folder}-${method}`;
          const ladder = { model, method, sparsities, calibration, out: own } satisfies PruneData;
          return evaluate({ model, method, folder: own }, [job('prune', ladder)]);
        }),
      ];
    }),
  };
}

const job = (name: string, data: object): FlowJob => ({ name, data, queueName: QUEUE, opts: OPTIONS });
