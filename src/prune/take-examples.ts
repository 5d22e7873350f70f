import { createExampleMeter, type FfnExample, sourceOf } from '../activations/ffn-examples.js';
import type { PrunableModule } from '../architecture/layout.js';
import type { OnnxModel } from '../onnx/onnx-model.js';
import type { Batch } from '../runtime/block-runner.js';
import { everyNth } from './every-nth.js';
import type { MeasureRequest } from './measure-modules.js';
import type { PruneContext } from './prune-context.js';

/** Tokens that examples are taken of, at most; fewer beyond so many bytes. */
const EXAMPLE_TOKENS = 16384;
const EXAMPLE_BYTES = 512 * 2 ** 20;

/** Examples of a segment's FFNs, taken while they are measured. */
export interface Examples {
  /** Measurements that it needs. */
  readonly request: Pick<MeasureRequest, 'otherMeters' | 'held'>;
  of(module: PrunableModule): readonly FfnExample[];
  dispose(): void;
}

/** Prepares to take examples of what FFNs read and give, where the linear layers into them are to be repaired. */
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
    // Channels change with the linear layers that make them; their input remains, unless another module of the segment makes it.
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

/** Batches that examples are taken of: of one size, evenly spread. */
function chooseExamples(batches: readonly Batch[], { output }: PrunableModule): Set<Batch> {
  const [first] = batches;
  if (first === undefined) return new Set();
  const alike = batches.filter(({ batchSize }) => batchSize === first.batchSize);
  // An FFN reads what it writes to: as many channels.
  const bytesPerToken = 2 * output.outputCount * Float32Array.BYTES_PER_ELEMENT;
  const tokens = Math.min(EXAMPLE_TOKENS, Math.floor(EXAMPLE_BYTES / bytesPerToken));
  const stride = Math.max(1, Math.ceil((alike.length * first.tokens.length) / Math.max(1, tokens)));
  return new Set(everyNth(alike, stride));
}
