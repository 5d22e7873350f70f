import type { PrunableModule } from '../architecture/layout.js';
import type { OnnxModel } from '../onnx/onnx-model.js';
import type { ResolvedOptions } from '../options.js';
import type { ModelChange } from '../removal/apply-change.js';
import type { ModuleOutcome } from './job.js';
import type { MeasureRequest } from './measure-modules.js';
import type { PruneContext } from './prune-context.js';

/** Ticks of progress for each batch of a pass that a refinement takes. */
export const TICKS_PER_PASS = 3;

/**
 * Something done to weights once units are gone. It works in place, on the model that it gets, and returns the weights that
 * it changed; whatever follows (masked original, recipe, certificate, further shots) reads those.
 * @example
 * const halveEmbedding: Refinement = {
 *   name: 'halve embedding',
 *   passes: () => 0,
 *   async run(_, model) {
 *     const halved = await halve(model.weights.get('embed.weight')!);
 *     setWeight(model, 'embed.weight', halved);
 *     return new Map([['embed.weight', halved]]);
 *   },
 * };
 */
export interface Refinement {
  /** Name of its timing. */
  readonly name: string;
  /** How often the calibration tokens go through the modules' segments for it, roughly; 0 where the options ask for nothing of it. */
  passes(options: ResolvedOptions): number;
  /** Refines modules as they shrink, so that later blocks are measured on the result. */
  follow?(context: PruneContext, model: OnnxModel, modules: readonly PrunableModule[]): SegmentRefinement;
  /** Refines the entire model once every block has shrunk. */
  run?(context: PruneContext, model: OnnxModel, outcome: ModelChange): Promise<ModelChange['changed']>;
}

/** A refinement of the modules of one segment. */
export interface SegmentRefinement {
  /** Values of the segment that are read when its modules are measured, before they shrink. */
  readonly reads: Pick<MeasureRequest, 'otherMeters' | 'held'>;
  run(outcome: ModuleOutcome): Promise<RefinedModule | undefined>;
  dispose(): void;
}

/** Result of a refinement of one module. */
export interface RefinedModule extends Pick<ModelChange, 'changed'> {
  /** Squared error at the module's output that is left, as a fraction of that before. */
  readonly remaining: number;
}
