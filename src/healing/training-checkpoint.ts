import type { TensorHandle } from '../onnx/onnx-model.js';
import type { Journal } from '../runtime/journal.js';
import type { HealingRequest } from './start-training.js';
import type { SavedTraining, TrainingFacts } from './training-state.js';

const NAME = 'training';

/** The first part of the entry; the bytes of each tensor follow. */
interface SavedTrainingFacts {
  readonly facts: TrainingFacts;
  readonly tensors: readonly (Pick<TensorHandle, 'dataType' | 'dims' | 'byteLength'> & { readonly name: string })[];
}

/** Resumes healing from the checkpoint of an earlier run, and saves checkpoints, if there is a journal. */
export async function checkpointTraining(
  journal: Journal | undefined,
): Promise<Pick<HealingRequest, 'from' | 'onStep'>> {
  if (journal === undefined) return {};
  return {
    from: await readTraining(journal),
    async onStep(save) {
      const { facts, tensors } = save();
      const byteLength = [...tensors.values()].reduce((sum, handle) => sum + handle.byteLength, 0);
      if (journal.shouldCheckpoint(byteLength)) await journal.write(NAME, partsOf(facts, tensors));
    },
  };
}

async function* partsOf(facts: TrainingFacts, tensors: SavedTraining['tensors']): AsyncGenerator<unknown> {
  const named = [...tensors].map(([name, { dataType, dims, byteLength }]) => ({ name, dataType, dims, byteLength }));
  yield { facts, tensors: named } satisfies SavedTrainingFacts;
  for (const handle of tensors.values()) yield await handle.read();
}

/** Weights and moments do not fit into memory: each tensor is read on request, in order. */
async function readTraining(journal: Journal): Promise<SavedTraining | undefined> {
  const parts = (await journal.read(NAME))?.[Symbol.asyncIterator]();
  const first = await parts?.next();
  if (parts === undefined || first === undefined || first.done === true) return undefined;
  const { facts, tensors } = first.value as SavedTrainingFacts;
  const read = async () => new Uint8Array((await parts.next()).value as Uint8Array);
  const handles = tensors.map(({ name, ...shape }): [string, TensorHandle] => [name, { ...shape, read }]);
  return { facts, tensors: new Map(handles), release: async () => void (await parts.return?.()) };
}
