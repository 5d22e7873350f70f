import type { PrunableModule } from '../architecture/layout.js';
import type { CompensationAdapter } from '../compensation/adapter.js';
import { copyModel } from '../onnx/edit-weights.js';
import { judgeSegment } from './judge-segment.js';
import type { Run } from './run.js';

/** Scores of the dense model's units by module, without groups. */
export async function scoreDense(
  run: Run,
  modules: readonly PrunableModule[],
  adapter: CompensationAdapter,
): Promise<Float64Array[]> {
  const { layout } = run.job.analysed.detected;
  const scores: Float64Array[] = [];
  const model = copyModel(run.job.model);
  const runner = adapter.needs === 'none' ? undefined : await run.startRunner(model);
  try {
    if (runner !== undefined) await run.advance(runner);
    for (const segment of layout.segments) {
      const inSegment = modules.filter((module) => module.segment === segment.index);
      const scored = await judgeSegment(run, { model, runner, modules: inSegment, adapter, functional: new Map() });
      scores.push(...scored.map((judged) => judged.scores));
      if (runner !== undefined && segment !== layout.segments.at(-1)) await run.advance(runner);
    }
  } finally {
    await runner?.dispose();
  }
  return scores;
}
