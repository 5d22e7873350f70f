import type { PrunableModule } from '../../architecture/layout.js';
import type { PruneJob, StageTiming } from '../job.js';
import { startContext } from '../prune-context.js';
import type { GradientWeights } from './dense-measures.js';
import { adviseNoGradients, findReached } from './find-obstacle.js';
import { keepingTokenWeights } from './kept-token-weights.js';
import { measureTokenWeights, type TokenWeights } from './measure-token-weights.js';

/**
 * Weighs tokens by `|g|^(2 power)`, g the gradient of the divergence from what the dense model predicts at a module's output.
 * @throws UnsupportedModelError where the loss cannot be followed back to the modules.
 */
export async function weighByGradient(
  job: PruneJob,
  modules: readonly PrunableModule[],
): Promise<{ readonly weights: GradientWeights; readonly timings: readonly StageTiming[] }> {
  findReached(job, { modules, grouping: undefined, sensitivity: true });
  // The walk backwards that measures the model keeps its place under the same names.
  const own = { ...job, journal: job.journal?.within('gradient-weights') };
  const context = startContext(own);
  try {
    const values = modules.map(({ output, segment }) => ({
      value: output.result,
      channelCount: output.outputCount,
      segment,
    }));
    const { weights: felt, obstacle } = await keepingTokenWeights(context, () => measureTokenWeights(context, values));
    if (obstacle !== undefined) throw adviseNoGradients(obstacle);
    const weights = new Map(
      modules.map((module) => [module, raise(felt.get(module.output.result)!, job.options.gradientPower)]),
    );
    return { weights: { of: (module, { index }) => weights.get(module)!.get(index)! }, timings: context.timings() };
  } finally {
    await context.dispose();
  }
}

/** Weights to a power, brought back to a mean of 1; all 1 where the loss feels no token. */
function raise({ batches }: TokenWeights, power: number): ReadonlyMap<number, Float32Array> {
  const raised = [...batches].map(
    ([index, batch]) => [index, Float64Array.from(batch, (weight) => weight ** power)] as const,
  );
  const all = raised.flatMap(([, batch]) => [...batch]);
  const mean = all.reduce((sum, weight) => sum + weight, 0) / all.length;
  return new Map(
    raised.map(([index, batch]) => [index, Float32Array.from(batch, (weight) => (mean > 0 ? weight / mean : 1))]),
  );
}
