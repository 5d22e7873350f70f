import { UnsupportedModelError } from '../../errors.js';
import { METRICS } from '../../importance/metrics.js';
import { reason } from '../../reason.js';
import type { PruneJob } from '../job.js';
import type { DenseNeeds } from './dense-measures.js';
import { refuseBackwards } from './refuse-backwards.js';

type GradientNeeds = Pick<DenseNeeds, 'grouping' | 'sensitivity' | 'modules'>;
type Subject = Pick<PruneJob, 'model' | 'analysed' | 'options'>;

/**
 * Why the loss cannot be followed back to the modules, where runs forwards can stand in for its gradients.
 * @throws UnsupportedModelError where they cannot.
 */
export function findObstacle(job: Subject, needs: GradientNeeds): UnsupportedModelError | undefined {
  try {
    refuseBackwards(job.model, job.analysed, needs.modules);
    return undefined;
  } catch (error) {
    return asObstacle(error, job, needs);
  }
}

/** An error of the way back, given back where runs forwards can stand in for gradients, else thrown. */
export function asObstacle(
  error: unknown,
  { options }: Pick<Subject, 'options'>,
  needs: GradientNeeds,
): UnsupportedModelError {
  if (!(error instanceof UnsupportedModelError)) throw error;
  const { measuredForwards } = METRICS[options.metric];
  if (measuredForwards && needs.grouping === undefined && !needs.sensitivity) return error;
  throw adviseNoGradients(error);
}

/** The error with what to do instead. */
export const adviseNoGradients = (error: UnsupportedModelError): UnsupportedModelError =>
  new UnsupportedModelError(
    `${reason(error)}: leave out what needs gradients (metric "loss", function groups, gradientPower, allocation "taylor"), or use the method flap, obc or wanda`,
    { cause: error },
  );
