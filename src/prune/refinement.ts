import type { PrunableModule } from '../architecture/layout.js';
import type { OnnxModel } from '../onnx/onnx-model.js';
import type { ResolvedOptions } from '../options.js';
import type { ModelChange } from '../removal/apply-change.js';
import type { ModuleOutcome } from './job.js';
import type { MeasureRequest } from './measure-modules.js';
import type { PruneContext } from './prune-context.js';

/** Ticks of progress per batch of a refinement's pass. */
export const TICKS_PER_PASS = 3;

/**
 * A change of weights after units were removed. It edits the given model in place and returns the changed weights, which later
 * steps read (masked original, recipe, certificate, further shots).
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
  /** Approximate number of passes of the calibration tokens over the modules' segments; 0 if the options do not use it. */
  passes(options: ResolvedOptions): number;
  /** Refines modules right after they shrink, so that later blocks are measured on the result. */
  follow?(context: PruneContext, model: OnnxModel, modules: readonly PrunableModule[]): SegmentRefinement;
  /** Refines the entire model after all blocks have shrunk. */
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
  /** Squared error at the module's output, as a fraction of the error before. */
  readonly remaining: number;
}
