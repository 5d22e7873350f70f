import type { PrunableModule } from '../architecture/layout.js';
import { columnSums } from '../importance/column-sums.js';
import { isRepaired, type ModuleCut } from '../removal/apply-change.js';
import { readLinearWeight, storeInMemory } from '../removal/repair-linear.js';
import type { Tensor } from '../runtime/engine.js';
import { tensorFloats } from '../runtime/tensor-floats.js';
import { everyNth } from './every-nth.js';
import type { PruneJob } from './job.js';
import { startContext } from './prune-context.js';

/** Top activations of a module's units: energies at its output, in the dense model. */
export interface ModuleActivations {
  /** `[tokens]`: sum over remaining units, and over those that left, of `||W_:j||² h_j²`. */
  readonly kept: Float64Array;
  readonly removed: Float64Array;
}

/** Activations of modules on some windows. */
export interface TopActivations {
  readonly windows: readonly Int32Array[];
  readonly byModule: ReadonlyMap<PrunableModule, ModuleActivations>;
}

/** Enough to see what a unit is about; next to nothing compared with what pruning reads. */
const TOKENS = 2048;

/**
 * Runs some windows through the dense model and tells apart, token by token, what kept and removed units give to each module's output.
 * Units are taken for independent: their products are left out.
 */
export async function topActivations(
  given: Omit<PruneJob, 'store'>,
  cuts: readonly ModuleCut[],
): Promise<TopActivations> {
  const { analysed, options } = given;
  const windowLength = given.windows[0]?.length ?? 1;
  const stride = Math.max(1, Math.ceil((given.windows.length * windowLength) / TOKENS));
  const windows = everyNth(given.windows, stride);
  const job = { ...given, store: storeInMemory, windows, options };
  const context = startContext(job);
  const runner = await context.startRunner(job.model, { isFixed: true });
  const byModule = new Map<PrunableModule, ModuleActivations>();
  try {
    const { segments } = analysed.detected.layout;
    context.begin('top-activations', segments.length + 1, 1 + context.batches.length);
    for (const { index } of segments) {
      context.startPart(index);
      options.signal?.throwIfAborted();
      await runner.advance();
      for (const cut of cuts.filter(({ module }) => module.segment === index && isRepaired(module))) {
        const energy = columnSums(await readLinearWeight(job.model, cut.module.output), 'squares');
        const activations: ModuleActivations = {
          kept: new Float64Array(windows.length * windowLength),
          removed: new Float64Array(windows.length * windowLength),
        };
        const value = cut.module.output.input;
        for await (const { batch, values } of runner.observe({ fetches: [value] }))
          addEnergies(activations, { cut, energy, channels: values[value]!, firstToken: batch.firstToken });
        byModule.set(cut.module, activations);
      }
    }
  } finally {
    await runner.dispose();
    await context.dispose();
  }
  return { windows, byModule };
}

interface Energies {
  readonly cut: ModuleCut;
  /** `||W_:j||²` by channel. */
  readonly energy: Float64Array;
  /** `[B, S, channels]` */
  readonly channels: Tensor;
  readonly firstToken: number;
}

function addEnergies({ kept, removed }: ModuleActivations, { cut, energy, channels, firstToken }: Energies): void {
  const { module, keep } = cut;
  const remaining = new Uint8Array(module.unitCount);
  for (const unit of keep) remaining[unit] = 1;
  const values = tensorFloats(channels, `the inputs of ${module.kind} ${module.block}`);
  const width = energy.length;
  for (let token = 0; token * width < values.length; token++) {
    for (let channel = 0; channel < width; channel++) {
      const value = values[token * width + channel]!;
      const sums = remaining[module.unitOfChannel[channel]!] === 1 ? kept : removed;
      sums[firstToken + token]! += energy[channel]! * value * value;
    }
  }
}
