import type { PrunableModule } from '../architecture/layout.js';
import { columnSums } from '../importance/column-sums.js';
import { isRepairable, type ModuleCut } from '../removal/apply-change.js';
import { readLinearWeight, storeInMemory } from '../removal/repair-linear.js';
import type { StageReads } from '../runtime/block-runner.js';
import type { Tensor } from '../runtime/engine.js';
import { tensorFloats } from '../runtime/tensor-floats.js';
import { everyNth } from './every-nth.js';
import type { PruneJob } from './job.js';
import { startContext } from './prune-context.js';

/** Energies of a module's units at its output, in the dense model. */
export interface ModuleActivations {
  /** `[tokens]`: sum of `||W_:j||² h_j²` over remaining units, and over removed ones. */
  readonly remaining: Float64Array;
  readonly removed: Float64Array;
}

/** Activations of modules on some windows. */
export interface TopActivations {
  readonly windows: readonly Int32Array[];
  readonly byModule: ReadonlyMap<PrunableModule, ModuleActivations>;
}

/** Most tokens: enough to characterise units, and few compared with those of pruning. */
const TOKENS = 2048;

/**
 * Runs some windows through the dense model and measures, token by token, the energy of remaining and of removed units at each
 * module's output. Units are assumed to be independent: cross terms are ignored.
 */
export async function topActivations(
  given: Omit<PruneJob, 'store'>,
  cuts: readonly ModuleCut[],
): Promise<TopActivations> {
  const { options } = given;
  const windowLength = given.windows[0]?.length ?? 1;
  const stride = Math.max(1, Math.ceil((given.windows.length * windowLength) / TOKENS));
  const windows = everyNth(given.windows, stride);
  const job = { ...given, store: storeInMemory, windows, options };
  const context = startContext(job);
  const runner = await context.startRunner(job.model, { isFixed: true });
  const byModule = new Map<PrunableModule, ModuleActivations>();
  const measured = cuts.filter(({ module }) => isRepairable(module));
  const last = Math.max(-1, ...measured.map(({ module }) => module.segment));
  try {
    context.begin('top-activations', last + 1, context.batches.length);
    // The embedding comes first.
    for (let segment = 0; segment <= last; segment += 1) {
      context.startPart(segment);
      options.signal?.throwIfAborted();
      const meters: EnergyMeter[] = [];
      for (const cut of measured.filter(({ module }) => module.segment === segment)) {
        const activations: ModuleActivations = {
          remaining: new Float64Array(windows.length * windowLength),
          removed: new Float64Array(windows.length * windowLength),
        };
        const energy = columnSums(await readLinearWeight(job.model, cut.module.output), 'squares');
        meters.push({ activations, cut, energy });
        byModule.set(cut.module, activations);
      }
      const reads = readEnergies(meters);
      await (segment === last ? context.advance(runner, reads) : context.pass(runner, reads));
    }
  } finally {
    await runner.dispose();
    await context.dispose();
  }
  return { windows, byModule };
}

interface EnergyMeter {
  readonly activations: ModuleActivations;
  readonly cut: ModuleCut;
  /** `||W_:j||²` by channel. */
  readonly energy: Float64Array;
}

function readEnergies(meters: readonly EnergyMeter[]): StageReads {
  return {
    fetches: meters.map(({ cut }) => cut.module.output.input),
    onBatch({ firstToken }, values) {
      for (const meter of meters) addEnergies(meter, values[meter.cut.module.output.input]!, firstToken);
    },
  };
}

/** @param channels `[B, S, channels]` */
function addEnergies({ activations, cut, energy }: EnergyMeter, channels: Tensor, firstToken: number): void {
  const { remaining, removed } = activations;
  const { module, keep } = cut;
  const remains = new Uint8Array(module.unitCount);
  for (const unit of keep) remains[unit] = 1;
  const values = tensorFloats(channels, `the inputs of ${module.kind} ${module.block}`);
  const width = energy.length;
  for (let token = 0; token * width < values.length; token++) {
    for (let channel = 0; channel < width; channel++) {
      const value = values[token * width + channel]!;
      const sums = remains[module.unitOfChannel[channel]!] === 1 ? remaining : removed;
      sums[firstToken + token]! += energy[channel]! * value * value;
    }
  }
}
