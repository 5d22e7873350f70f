import type { PrunableModule } from '../../architecture/layout.js';
import { errorMessage } from '../../error-message.js';
import { UnsupportedModelError } from '../../errors.js';
import { METRICS } from '../../importance/metrics.js';
import type { PruneJob } from '../job.js';
import type { DenseNeeds } from './dense-measures.js';
import { findGradientReach } from './gradient-reach.js';

type GradientNeeds = Pick<DenseNeeds, 'grouping' | 'sensitivity' | 'modules'>;
type Subject = Pick<PruneJob, 'model' | 'analysed' | 'options'>;

/** Modules by whether the loss's gradient reaches their outputs. */
export interface ReachedModules {
  readonly reached: readonly PrunableModule[];
  /** Why it does not reach the others; undefined where it reaches all. */
  readonly obstacle: UnsupportedModelError | undefined;
}

/**
 * Finds the modules that the gradient of the loss reaches, where forward passes can replace the gradients of the others.
 * @throws UnsupportedModelError where they cannot.
 */
export function findReached(job: Subject, needs: GradientNeeds): ReachedModules {
  const reach = findGradientReach(job.model, job.analysed);
  const obstacles = needs.modules.map(({ output }) => reach.obstacleOf(output.result));
  const obstacle = obstacles.find((found) => found !== undefined);
  return {
    reached: needs.modules.filter((_, at) => obstacles[at] === undefined),
    obstacle: obstacle && asObstacle(obstacle, job, needs),
  };
}

/** An error of the backward pass: returned where forward passes can replace gradients, else thrown. */
export function asObstacle(
  error: unknown,
  { options }: Pick<Subject, 'options'>,
  needs: GradientNeeds,
): UnsupportedModelError {
  if (!(error instanceof UnsupportedModelError)) throw error;
  const { measuredForwards } = METRICS[options.metric];
  if (measuredForwards && needs.grouping === undefined && !needs.sensitivity) return error;
  throw new UnsupportedModelError(
    `${errorMessage(error)}: leave out what needs gradients (metric "loss", function groups, allocation "taylor"), or use the method flap, obc or wanda`,
    { cause: error },
  );
}
