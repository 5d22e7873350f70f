import type { PrunableModule } from '../../architecture/layout.js';
import { errorMessage } from '../../error-message.js';
import { UnsupportedModelError } from '../../errors.js';
import { METRICS } from '../../importance/metrics.js';
import { isFloatType } from '../../onnx/float-encoding.js';
import type { OnnxModel } from '../../onnx/onnx-model.js';
import { dataInputs } from '../../onnx/partition.js';
import { gradientOf, operatorOf } from '../../operators/table.js';
import type { AnalysedModel } from '../../runtime/analyse-model.js';
import { indexRunGraph } from '../../runtime/block-runner.js';
import type { PruneJob } from '../job.js';
import type { DenseNeeds } from './dense-measures.js';

type GradientNeeds = Pick<DenseNeeds, 'grouping' | 'sensitivity' | 'modules'>;
type Job = Pick<PruneJob, 'model' | 'analysed' | 'options'>;

/** Modules by whether the loss's gradient reaches their outputs. */
export interface ReachedModules {
  readonly reached: readonly PrunableModule[];
  /** Why it does not reach the others; undefined if it reaches all. */
  readonly obstacle: UnsupportedModelError | undefined;
}

/**
 * Finds the modules that the gradient of the loss reaches.
 * @throws UnsupportedModelError if forward passes cannot replace the gradients of the others.
 */
export function findReached(job: Job, needs: GradientNeeds): ReachedModules {
  const reach = findGradientReach(job.model, job.analysed);
  const obstacles = needs.modules.map(({ output }) => reach.obstacleOf(output.result));
  const obstacle = obstacles.find((found) => found !== undefined);
  return {
    reached: needs.modules.filter((_, at) => obstacles[at] === undefined),
    obstacle: obstacle && asObstacle(obstacle, job, needs),
  };
}

/** Returns an error of the backward pass if forward passes can replace gradients, and throws it otherwise. */
export function asObstacle(
  error: unknown,
  { options }: Pick<Job, 'options'>,
  needs: GradientNeeds,
): UnsupportedModelError {
  if (!(error instanceof UnsupportedModelError)) throw error;
  const { measuredForwards } = METRICS[options.metric];
  if (measuredForwards && needs.grouping === undefined && !needs.sensitivity) return error;
  throw new UnsupportedModelError(
    `${errorMessage(error)}; do not use options that need gradients (metric "loss", function groups, allocation "taylor"), or use the method flap, obc or wanda`,
    { cause: error },
  );
}

/** Values at which the gradient of the loss can be computed. */
export interface GradientReach {
  /** Why there is no gradient at a value: an operator between it and the logits has no rule. Undefined if there is a gradient. */
  obstacleOf(value: string): UnsupportedModelError | undefined;
}

/** Finds the values that gradients reach by the operator table, without running tokens. */
export function findGradientReach(model: OnnxModel, { detected, facts, tokenInput }: AnalysedModel): GradientReach {
  const { logits } = detected.layout;
  const [tokens, found] = [tokenInput, logits].map((name) => facts.first.get(name)?.dims ?? []);
  if (tokens?.[1] !== found?.[1]) {
    const obstacle = new UnsupportedModelError(
      `"${logits}" has dims [${found}] for tokens [${tokens}], expected logits of every token, which the loss needs`,
    );
    return { obstacleOf: () => obstacle };
  }
  const isFloat = (value: string) => {
    const type = facts.first.get(value)?.dataType;
    return type === undefined || isFloatType(type);
  };
  const affectsLogits = new Set([logits]);
  const obstacles = new Map<string, UnsupportedModelError>();
  for (const node of indexRunGraph(model).nodes.toReversed()) {
    if (operatorOf(node)?.gradient === 'zero') continue;
    const outputs = node.output.filter((value) => affectsLogits.has(value) && isFloat(value));
    if (outputs.length === 0) continue;
    const obstacle = outputs.map((value) => obstacles.get(value)).find((known) => known !== undefined);
    const own = obstacle ?? errorOf(() => gradientOf(node));
    for (const value of dataInputs(node)) {
      affectsLogits.add(value);
      if (own !== undefined && !obstacles.has(value)) obstacles.set(value, own);
    }
  }
  return { obstacleOf: (value) => obstacles.get(value) };
}

function errorOf(check: () => unknown): UnsupportedModelError | undefined {
  try {
    check();
    return undefined;
  } catch (error) {
    if (error instanceof UnsupportedModelError) return error;
    throw error;
  }
}
