import type { TokenContexts } from '../../activations/measure-affinity.js';
import type { PrunableModule } from '../../architecture/layout.js';
import { errorMessage } from '../../error-message.js';
import { groupNeurons } from '../../grouping/group-neurons.js';
import type { PruneContext } from '../prune-context.js';
import { findInterruptedBackward } from './backward-checkpoint.js';
import {
  type BackwardMeasures,
  type DenseMeasures,
  type DenseNeeds,
  type ForwardMeasures,
  type FunctionalModule,
  needsGradients,
} from './dense-measures.js';
import { type DensePasses, startDensePasses } from './dense-passes.js';
import { measureBackwards, oneContext } from './measure-backwards.js';
import { measureForwards } from './measure-forwards.js';
import { perturbOutputs } from './perturb-outputs.js';

/** Measures the dense model in one forward pass and, if gradients are needed, one backward pass. */
export async function runMeasurements(context: PruneContext, needs: DenseNeeds): Promise<DenseMeasures> {
  if (!needsGradients(needs) && !needs.blockChange && needs.order === undefined) return { functional: new Map() };
  const passes = await startDensePasses(context, needs);
  try {
    const forwards = await measureForwards(context, passes, await findInterruptedBackward(context, passes));
    const backwards = await runBackwardPass(context, passes, forwards);
    return collect(context, { needs, forwards, backwards });
  } finally {
    await passes.dispose();
  }
}

/** Runs the backward pass, and estimates by forward passes for the modules that gradients do not reach. */
async function runBackwardPass(
  context: PruneContext,
  passes: DensePasses,
  forwards: ForwardMeasures,
): Promise<ReadonlyMap<PrunableModule, BackwardMeasures>> {
  const { found, obstacle = passes.obstacle } = await measureBackwards(context, passes, forwards);
  if (obstacle === undefined) return found;
  const { modules } = passes.needs;
  const others = modules.filter((module) => !found.has(module));
  const named = found.size === 0 ? 'the modules' : `${others.length} of ${modules.length} modules`;
  context.remarks.push(
    `no gradient reaches ${named}, so that the cost of an error there is estimated by adding noise to their outputs: ${errorMessage(obstacle)}`,
  );
  return new Map([...found, ...(await perturbOutputs(context, passes, { modules: others, known: [...found.keys()] }))]);
}

interface Measured {
  readonly needs: DenseNeeds;
  readonly forwards: ForwardMeasures;
  readonly backwards: ReadonlyMap<PrunableModule, BackwardMeasures>;
}

function collect(context: PruneContext, { needs, forwards, backwards }: Measured): DenseMeasures {
  const { blockChange, contexts } = forwards;
  const sensitivity = new Float64Array(context.job.analysed.detected.layout.blockCount);
  const functional = new Map<PrunableModule, FunctionalModule>();
  const orders = new Map(forwards.orders);
  for (const [module, { affinity, order }] of backwards) {
    if (order) orders.set(module, order);
    if (affinity === undefined) continue;
    const own = contexts.get(module);
    sensitivity[module.block]! += meanAffinity(affinity, own ?? oneContext(context));
    if (own === undefined || needs.grouping === undefined) continue;
    if (affinity.every((value) => value === 0)) {
      context.remarks.push(
        `block ${module.block} ffn: no neuron has affinity to any context, so that groups are by index; activations or gradients are zero on all calibration tokens`,
      );
    }
    const { contextCount } = own;
    const groups = groupNeurons({ ...needs.grouping, affinity, contextCount, random: context.random });
    functional.set(module, { contexts: own, groups, affinity });
  }
  // Without tokens the block change is 0 / 0.
  return {
    ...(context.batches.length > 0 && { blockChange }),
    sensitivity,
    functional,
    ...(needs.order && { orders }),
  };
}

/** Mean over all tokens and neurons. */
function meanAffinity(affinity: Float64Array, { contextCount, contextOfToken }: TokenContexts): number {
  const counts = new Float64Array(contextCount);
  for (const context of contextOfToken) counts[context]! += 1;
  const unitCount = affinity.length / contextCount;
  const sum = affinity.reduce(
    (total, value, at) => total + (counts[Math.floor(at / unitCount)]! / contextOfToken.length) * value,
    0,
  );
  return sum / unitCount;
}
