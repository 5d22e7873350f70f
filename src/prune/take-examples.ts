import { createExampleMeter, type FfnExample, sourceOf } from '../activations/ffn-examples.js';
import type { PrunableModule } from '../architecture/layout.js';
import type { OnnxModel } from '../onnx/onnx-model.js';
import type { Batch } from '../runtime/block-runner.js';
import { everyNth } from './every-nth.js';
import type { MeasureRequest } from './measure-modules.js';
import type { PruneContext } from './prune-context.js';

/** Most tokens of the examples, and most bytes. */
const EXAMPLE_TOKENS = 16384;
const EXAMPLE_BYTES = 512 * 2 ** 20;

/** Examples of a segment's FFNs, collected while these are measured. */
export interface Examples {
  /** Meters and cached value for the measurement. */
  readonly request: Pick<MeasureRequest, 'otherMeters' | 'held'>;
  of(module: PrunableModule): readonly FfnExample[];
  dispose(): void;
}

/** Prepares to collect inputs and outputs of FFNs, if their input projections are to be repaired. */
export function startExamples(context: PruneContext, model: OnnxModel, modules: readonly PrunableModule[]): Examples {
  const ffns = context.job.options.inputSteps > 0 ? modules.filter(({ kind }) => kind === 'ffn') : [];
  const meters = new Map(
    ffns.map((module) => {
      const chosen = chooseExamples(context.batches, module);
      const source = sourceOf(model, module);
      return [module, createExampleMeter(module, { source, isWanted: (batch) => chosen.has(batch) })];
    }),
  );
  const [only] = modules;
  return {
    // Input repair changes channels, so the FFN's input is cached instead, unless another module of the segment affects it.
    request: {
      otherMeters: [...meters.values()],
      held: meters.size === 1 && modules.length === 1 ? sourceOf(model, only!) : undefined,
    },
    of: (module) => meters.get(module)?.examples ?? [],
    dispose: () => {
      for (const meter of meters.values()) meter.dispose();
    },
  };
}

/** Chooses batches for examples, of one size and evenly spread. */
function chooseExamples(batches: readonly Batch[], { output }: PrunableModule): Set<Batch> {
  const [first] = batches;
  if (first === undefined) return new Set();
  const ofOneSize = batches.filter(({ batchSize }) => batchSize === first.batchSize);
  // An FFN has as many input as output channels.
  const bytesPerToken = 2 * output.outputCount * Float32Array.BYTES_PER_ELEMENT;
  const tokens = Math.min(EXAMPLE_TOKENS, Math.floor(EXAMPLE_BYTES / bytesPerToken));
  const stride = Math.max(1, Math.ceil((ofOneSize.length * first.tokens.length) / Math.max(1, tokens)));
  return new Set(everyNth(ofOneSize, stride));
}
