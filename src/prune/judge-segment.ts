import type { PrunableModule } from '../architecture/layout.js';
import {
  type ChannelStatistics,
  type CompensationAdapter,
  EMPTY_STATISTICS,
  type LinearWeight,
} from '../compensation/adapter.js';
import type { OnnxModel } from '../onnx/onnx-model.js';
import { judgeModule, type ScoredModule } from '../removal/judge-module.js';
import { readLinearWeight } from '../removal/repair-linear.js';
import type { HiddenStates } from '../runtime/hidden-states.js';
import type { FunctionalModule } from './dense-observation.js';
import { judgedUnits } from './measure-modules.js';
import type { Run } from './run.js';
import { seeInMetric } from './see-in-metric.js';

export interface SegmentCase {
  readonly model: OnnxModel;
  /** Modules of one segment. */
  readonly modules: readonly PrunableModule[];
  /** Statistics by module and function group; none for methods that look at no token. */
  readonly statistics: readonly (readonly ChannelStatistics[])[];
  readonly adapter: CompensationAdapter;
  /** Modules whose neurons are grouped by function; the others are one group each. */
  readonly functional: ReadonlyMap<PrunableModule, FunctionalModule>;
  /** The metric's curvature at each module's output, by module index, where scores are taken in its metric. */
  readonly curvatures?: Pick<HiddenStates, 'get'> | undefined;
  /** Importance by unit that decides in place of what the adapter would find, where there is one. */
  orderOf(module: PrunableModule): Float64Array | undefined;
}

/** Scores the units of a segment's modules by their statistics. */
export async function judgeSegment(run: Run, given: SegmentCase): Promise<ScoredModule[]> {
  const { model, modules, statistics, adapter, functional, curvatures } = given;
  const { options } = run.job;
  const scored: ScoredModule[] = [];
  for (const [at, module] of modules.entries()) {
    const weight = await readLinearWeight(model, module.output);
    const groups = judgedUnits(module, functional.get(module)).map((units, k) => ({
      units,
      statistics: statistics[at]?.[k] ?? EMPTY_STATISTICS,
    }));
    const order = given.orderOf(module);
    const judged = await run.timed('score', async () =>
      judgeModule({
        module,
        weight,
        scoredWeight: order === undefined ? await inMetric(run, { weight, module, curvatures }) : undefined,
        groups,
        order,
        adapter,
        headUnit: options.headUnit,
        random: run.random,
        multiply: run.multiply,
      }),
    );
    run.remarks.push(...judged.remarks.map((remark) => `block ${module.block} ${module.kind}: ${remark}`));
    scored.push(judged);
  }
  return scored;
}

async function inMetric(
  run: Run,
  {
    weight,
    module,
    curvatures,
  }: Pick<SegmentCase, 'curvatures'> & {
    readonly weight: LinearWeight;
    readonly module: PrunableModule;
  },
): Promise<LinearWeight | undefined> {
  if (curvatures === undefined) return undefined;
  const { data } = await curvatures.get(module.index);
  return seeInMetric(run, module, { weight, curvature: Float64Array.from(data as Float32Array) });
}
