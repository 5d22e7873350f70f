import { ModelFormatError, UnsupportedModelError } from '../errors.js';
import type { JobControl } from '../progress.js';
import type { ByteSink, SinkFolder } from './byte-source.js';
import { type EncodedStructure, encodeHead, encodeStructure, initializerField } from './encode-model.js';
import type { OnnxModel, TensorHandle } from './onnx-model.js';
import { MAX_PROTOBUF_BYTES, planStorage, type StorageChoice, type StoragePlan, TAG_BYTES } from './plan-storage.js';
import { type TensorFragment, tensorFragment } from './tensor-fragment.js';

export interface SaveOptions extends JobControl {
  /** Default `source`. */
  readonly layout?: StorageChoice;
  /** Other files of the folder, relative to it, which external data must not replace. Default: none. */
  readonly taken?: ReadonlySet<string>;
}

/** A file that was written. */
export interface SavedFile {
  /** Relative to the folder it was written into. */
  readonly path: string;
  readonly byteLength: number;
}

export interface SavedModel {
  /** The model file first, then its external data if there is any. */
  readonly files: readonly SavedFile[];
  readonly byteLength: number;
}

/** Weights are copied in pieces of this size, so that memory does not depend on the model. */
const COPY_BYTES = 8 * 2 ** 20;

/**
 * Saves a model. Weights stream from their handles one piece at a time; unchanged ones are byte-identical. A weight's
 * shape and type are its handle's.
 *
 * @param fileName model file relative to `folder`, such as `onnx/model.onnx`; external data goes next to it
 * @throws UnsupportedModelError when the protobuf would exceed 2 GiB even with all weights outside.
 * @throws ModelFormatError when a weight cannot be read, or an initializer has none.
 */
export async function saveModel(
  model: OnnxModel,
  folder: SinkFolder,
  fileName: string,
  { layout = 'source', taken, ...control }: SaveOptions = {},
): Promise<SavedModel> {
  const slash = fileName.lastIndexOf('/') + 1;
  const { structure, plan } = planModel(model, fileName, layout, taken);
  const planned = planModelFile(structure, plan, fileName);
  const step = createSteps(plan, control);
  const files = [await writeFile(folder, fileName, (sink) => writeModelFile(sink, planned, step))];
  for (const location of plan.locations) {
    const path = fileName.slice(0, slash) + location;
    files.push(await writeFile(folder, path, (sink) => writeExternal(sink, { plan, location, step })));
  }
  return { files, byteLength: files.reduce((sum, { byteLength }) => sum + byteLength, 0) };
}

/** Bytes of the files that `saveModel` would write; no weight is read. */
export function measureModel(
  model: OnnxModel,
  fileName: string,
  { layout = 'source' }: Pick<SaveOptions, 'layout'> = {},
): number {
  const { structure, plan } = planModel(model, fileName, layout);
  const { head, initializers } = planModelFile(structure, plan, fileName);
  const fileBytes = initializers.reduce(
    (sum, fragment) => sum + fragment.head.byteLength + (fragment.payload?.byteLength ?? 0),
    head.byteLength,
  );
  const ends = new Map<string, number>();
  for (const { handle, outside } of plan.tensors) {
    if (handle === undefined || outside === undefined) continue;
    ends.set(outside.location, Math.max(ends.get(outside.location) ?? 0, outside.offset + handle.byteLength));
  }
  return [...ends.values()].reduce((sum, end) => sum + end, fileBytes);
}

/** External files that `saveModel` would write, relative to the model file's folder. */
export function planExternalFiles(
  model: OnnxModel,
  fileName: string,
  { layout = 'source' }: Pick<SaveOptions, 'layout'> = {},
): readonly string[] {
  return planModel(model, fileName, layout).plan.locations;
}

function planModel(model: OnnxModel, fileName: string, choice: StorageChoice, taken?: ReadonlySet<string>) {
  const structure = encodeStructure(model.proto);
  const structureBytes = structure.model.byteLength + structure.graph.byteLength;
  const slash = fileName.lastIndexOf('/') + 1;
  const modelFile = fileName.slice(slash);
  const isTaken = (location: string) => taken?.has(fileName.slice(0, slash) + location) ?? false;
  return { structure, plan: planStorage(model, { modelFile, choice, structureBytes, isTaken }) };
}

/** Parts of a model file in order. */
interface PlannedFile {
  readonly head: Uint8Array<ArrayBuffer>;
  readonly initializers: readonly TensorFragment[];
}

function planModelFile(structure: EncodedStructure, plan: StoragePlan, fileName: string): PlannedFile {
  const initializers = plan.tensors.map((planned) => initializerField(tensorFragment(planned)));
  const initializerBytes = initializers.reduce((sum, { byteLength }) => sum + byteLength, 0);
  const byteLength = structure.model.byteLength + structure.graph.byteLength + initializerBytes;
  if (TAG_BYTES + byteLength > MAX_PROTOBUF_BYTES) {
    throw new UnsupportedModelError(
      `${fileName} would take ${byteLength} bytes besides its external data; protobuf ends at 2 GiB.`,
    );
  }
  return { head: encodeHead(structure, initializerBytes), initializers };
}

async function writeModelFile(sink: ByteSink, { head, initializers }: PlannedFile, step: Step): Promise<void> {
  await sink.write(head);
  for (const fragment of initializers) {
    await sink.write(fragment.head);
    if (fragment.payload !== undefined) await copyWeight(fragment.payload, sink, step);
  }
}

interface ExternalFile {
  readonly plan: StoragePlan;
  readonly location: string;
  readonly step: Step;
}

async function writeExternal(sink: ByteSink, { plan, location, step }: ExternalFile): Promise<void> {
  let position = 0;
  for (const { handle, outside } of plan.tensors) {
    if (handle === undefined || outside?.location !== location) continue;
    await sink.write(new Uint8Array(outside.offset - position));
    await copyWeight(handle, sink, step);
    position = outside.offset + handle.byteLength;
  }
}

/** Called with the bytes of each piece that was copied. */
type Step = (byteLength: number) => void;

async function copyWeight(handle: TensorHandle, sink: ByteSink, step: Step): Promise<void> {
  for (let offset = 0; offset < handle.byteLength; offset += COPY_BYTES) {
    const length = Math.min(COPY_BYTES, handle.byteLength - offset);
    const bytes = await handle.read({ offset, length });
    // The declared length has already been written.
    if (bytes.byteLength !== length) {
      throw new ModelFormatError(`A weight returned ${bytes.byteLength} bytes where ${length} were requested.`);
    }
    await sink.write(bytes);
    step(bytes.byteLength);
  }
}

function createSteps({ tensors }: StoragePlan, { onProgress, signal }: JobControl): Step {
  const total = tensors.reduce((sum, { handle }) => sum + (handle?.byteLength ?? 0), 0);
  let done = 0;
  return (byteLength) => {
    signal?.throwIfAborted();
    done += byteLength;
    onProgress?.({ stage: 'save', done, total });
  };
}

/** Writes one file; a failure closes it before it is thrown. */
async function writeFile(
  folder: SinkFolder,
  path: string,
  write: (sink: ByteSink) => Promise<void>,
): Promise<SavedFile> {
  const file = await folder.create(path);
  let byteLength = 0;
  const counting: ByteSink = {
    async write(bytes) {
      byteLength += bytes.byteLength;
      await file.write(bytes);
    },
  };
  try {
    await write(counting);
  } finally {
    await file.close();
  }
  return { path, byteLength };
}
