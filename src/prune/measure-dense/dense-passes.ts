import { type BlockSpan, blockSpans, type PrunableModule } from '../../architecture/layout.js';
import type { UnsupportedModelError } from '../../errors.js';
import { copyModel } from '../../onnx/edit-weights.js';
import type { OnnxModel } from '../../onnx/onnx-model.js';
import { type Batch, type BlockRunner, countTokens } from '../../runtime/block-runner.js';
import type { TensorStore } from '../../runtime/tensor-store.js';
import type { PruneContext } from '../prune-context.js';
import { chooseBackwardBatches } from './choose-backward-batches.js';
import { type DenseNeeds, needsGradients } from './dense-measures.js';
import { findReached } from './gradient-reach.js';
import { chooseStride, createSparseArchive } from './sparse-archive.js';
import { createStatisticsStore, type StatisticsStore } from './statistics-store.js';

/** State of the passes over the dense model: forward with all tokens, and, if gradients are needed, backward with some. */
export interface DensePasses {
  readonly needs: DenseNeeds;
  readonly model: OnnxModel;
  /** Positioned at the token ids. */
  readonly runner: BlockRunner;
  /** Absent: gradients are not needed or cannot be computed. */
  readonly backwardPass: BackwardPass | undefined;
  /** Stores statistics for orders that are computed after the gradients. */
  readonly statisticsStore: StatisticsStore | undefined;
  readonly spans: readonly BlockSpan[];
  /** Why gradients that are needed cannot be computed. */
  readonly obstacle: UnsupportedModelError | undefined;
  dispose(): Promise<void>;
}

/** Batches and modules of the backward pass. */
export interface BackwardPass {
  readonly batches: readonly Batch[];
  /** Receives every block's input, and the last one's output, see `Backpropagation.archive`. */
  readonly archive: TensorStore;
  /** Modules whose outputs the gradients reach. */
  readonly modules: readonly PrunableModule[];
  /** Index in the spans of the first block that has any of them. */
  readonly lowest: number;
}

/** Prepares to measure the dense model. @throws UnsupportedModelError if needed gradients can be neither computed nor replaced. */
export async function startDensePasses(context: PruneContext, needs: DenseNeeds): Promise<DensePasses> {
  const { job } = context;
  const { reached = [], obstacle } = needsGradients(needs) ? findReached(job, needs) : {};
  const backwards = needsGradients(needs) && (reached.length > 0 || obstacle === undefined);
  const spans = blockSpans(job.analysed.detected.layout);
  const model = copyModel(job.model);
  const runner = await context.startRunner(model, { isFixed: true });
  const backwardPass = backwards
    ? await startBackwardPass(context, { model, runner, spans, needs: { ...needs, modules: reached } })
    : undefined;
  // In a metric with curvature, orders need the gradients first.
  const statisticsStore = needs.order && needs.curvatures ? await createStatisticsStore(job, needs.modules) : undefined;
  const parts = [runner, backwardPass?.archive, statisticsStore];
  return {
    needs,
    model,
    runner,
    backwardPass,
    statisticsStore,
    spans,
    obstacle,
    dispose: async () => void (await Promise.all(parts.map((part) => part?.dispose()))),
  };
}

async function startBackwardPass(
  { job, batches }: PruneContext,
  { model, runner, spans, needs }: Pick<DensePasses, 'model' | 'runner' | 'spans' | 'needs'>,
): Promise<BackwardPass> {
  const chosen = chooseBackwardBatches(batches, needs);
  const tokenCount = countTokens(chosen);
  const stateBytes = tokenCount * job.analysed.detected.layout.hiddenSize * Float32Array.BYTES_PER_ELEMENT;
  const modelBytes = [...job.model.weights.values()].reduce((sum, { byteLength }) => sum + byteLength, 0);
  const stride = chooseStride(spans.length, stateBytes, modelBytes);
  const archive = await createSparseArchive({ job, model, spans, batches: chosen, side: runner.side, stride });
  const { modules } = needs;
  return { batches: chosen, archive, modules, lowest: lowestSpan(spans, modules) };
}

/** Index of the first span with any of these segments; 0 without segments. */
export function lowestSpan(spans: readonly BlockSpan[], parts: readonly { readonly segment: number }[]): number {
  return Math.max(
    0,
    spans.findIndex(({ first, last }) => parts.some(({ segment }) => segment >= first && segment <= last)),
  );
}
