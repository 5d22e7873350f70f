import type { PrunableModule } from '../architecture/layout.js';
import { setWeight } from '../onnx/edit-weights.js';
import type { OnnxModel, TensorHandle } from '../onnx/onnx-model.js';
import type { DegenerateChannels } from './degenerate.js';
import type { ModuleOutcome } from './job.js';
import type { PruneContext } from './prune-context.js';
import type { SegmentWork } from './segment-checkpoint.js';
import { type ModelEdits, replayShrinking, type ShrunkModule } from './shrink-module.js';

/** A module after shrinking, and after refinements. */
export interface RefinedOutcome {
  readonly shrunk: ShrunkModule;
  readonly outcome: ModuleOutcome;
  /** Changes by the refinements, by name. */
  readonly refined: ReadonlyMap<string, TensorHandle>;
  /** Degenerate channels of the module. */
  readonly degenerate: DegenerateChannels;
}

/** A module's outcome as plain data. */
interface SavedModule extends Omit<ShrunkModule, 'outcome'> {
  readonly index: number;
  readonly outcome: Omit<ModuleOutcome, 'module'>;
  readonly refined: ReadonlyMap<string, SavedTensor>;
  readonly degenerate: DegenerateChannels;
}

interface SavedTensor extends Pick<TensorHandle, 'dataType' | 'dims'> {
  readonly bytes: Uint8Array<ArrayBuffer>;
}

/** Results of the modules of a segment, for the journal. */
export const packModules = (modules: readonly RefinedOutcome[]): SegmentWork => ({
  byteLength: modules.reduce((sum, module) => sum + bytesOf(module), 0),
  parts: () => Promise.all(modules.map(pack)),
});

async function pack({
  shrunk: { weight, bias },
  outcome: given,
  refined,
  degenerate,
}: RefinedOutcome): Promise<SavedModule> {
  const { module, ...outcome } = given;
  const tensors = new Map<string, SavedTensor>();
  for (const [name, handle] of refined)
    tensors.set(name, { dataType: handle.dataType, dims: handle.dims, bytes: await handle.read() });
  return { index: module.index, outcome, weight, bias, refined: tensors, degenerate };
}

const bytesOf = ({ shrunk: { weight }, refined }: RefinedOutcome): number =>
  [...refined.values()].reduce((sum, { byteLength }) => sum + byteLength, weight?.byteLength ?? 0);

/** Repeats the saved changes of a module. @param part From `packModules`. */
export async function replayModule(
  context: PruneContext,
  model: OnnxModel,
  part: unknown,
  edits: ModelEdits,
): Promise<Pick<RefinedOutcome, 'outcome' | 'degenerate'>> {
  const { index, outcome: saved, refined, degenerate, ...rest } = part as SavedModule;
  const { modules } = context.job.analysed.detected.layout;
  const outcome = { module: findModule(modules, index), ...saved };
  await replayShrinking(context, model, { ...rest, outcome }, edits);
  for (const [name, { bytes, ...shape }] of refined) {
    const handle = await context.job.store(shape, bytes);
    setWeight(model, name, handle);
    edits.changed.set(name, handle);
  }
  return { outcome, degenerate };
}

const findModule = (modules: readonly PrunableModule[], wanted: number): PrunableModule =>
  modules.find(({ index }) => index === wanted)!;
