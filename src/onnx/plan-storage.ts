import type { TensorProto } from 'onnx-buf';
import { ModelFormatError } from '../errors.js';
import { INT32, INT64 } from './data-types.js';
import type { ModelStorage, OnnxModel, TensorHandle } from './onnx-model.js';
import { normaliseRelativePath } from './relative-path.js';
import { type PlannedTensor, tensorFragment } from './tensor-fragment.js';
import { describeShape, expectedByteLength } from './tensor-handle.js';

/**
 * Storage of saved weights: `source` = as in the source file, `inline` = into the protobuf, or into files next to it.
 * `inline` becomes external when the protobuf would exceed 2 GiB.
 */
export type StorageChoice = 'source' | 'inline' | ExternalStorage;

export interface ExternalStorage {
  readonly external: {
    /** File name, relative to the model file's folder. Default: the source's, or `<model file>_data`. */
    readonly location?: string;
    /** Weights of fewer bytes stay inside the protobuf. Default 1024. */
    readonly thresholdBytes?: number;
    /** Most bytes per file; a larger weight gets its own file. Default 2 GiB less one byte. */
    readonly fileBytes?: number;
  };
}

export interface StoragePlan {
  /** In the model's order. */
  readonly tensors: readonly PlannedTensor[];
  /** The external files, in the order in which the weights fill them. */
  readonly locations: readonly string[];
}

/** Longest protobuf that ONNX Runtime and protobuf itself read: 2 GiB less one byte. */
export const MAX_PROTOBUF_BYTES = 2 ** 31 - 1;

/** Longest external file: the limit of single reads in Node.js, and of arrays in browsers. */
const MAX_FILE_BYTES = 2 ** 31 - 1;

/** Most bytes of a field's tag and length, for the fields written here. */
export const TAG_BYTES = 6;

/** Smaller weights are stored inline, since opening external ones costs more. */
const DEFAULT_THRESHOLD_BYTES = 1024;

/** Sizes, axes and splits, which ONNX Runtime's shape inference reads only from the protobuf. */
const SHAPE_TYPES: ReadonlySet<number> = new Set([INT32, INT64]);

/** Large tensors begin on a page, so that they can be mapped into memory; small ones on a cache line. */
const ALIGNMENTS = [
  { fromBytes: 65536, alignment: 4096 },
  { fromBytes: 0, alignment: 64 },
] as const;

export interface StorageRequest {
  /** Name of the model file without folder. */
  readonly modelFile: string;
  readonly choice: StorageChoice;
  /** Bytes that the protobuf takes without its initializers. */
  readonly structureBytes: number;
  /** Whether another file has that name. Default: none. */
  readonly isTaken?: ((location: string) => boolean) | undefined;
}

/**
 * Plans the storage of each weight.
 * @throws ModelFormatError when an initializer has no weight or one of another size, or a location is outside the
 *   folder.
 */
export function planStorage(model: OnnxModel, request: StorageRequest): StoragePlan {
  const tensors = (model.proto.graph?.initializer ?? []).map((tensor) => withHandle(tensor, model.weights));
  const wanted = target(model.storage, request);
  const placed = place(tensors, wanted);
  const fits = TAG_BYTES + request.structureBytes + inlineBytes(placed) <= MAX_PROTOBUF_BYTES;
  const thresholdBytes = Math.min(wanted.thresholdBytes, DEFAULT_THRESHOLD_BYTES);
  const final = fits ? placed : place(tensors, { ...wanted, thresholdBytes });
  const locations = new Set(final.flatMap(({ outside }) => outside?.location ?? []));
  return { tensors: final, locations: [...locations] };
}

function withHandle(tensor: TensorProto, weights: ReadonlyMap<string, TensorHandle>): PlannedTensor {
  const handle = weights.get(tensor.name);
  if (handle !== undefined) {
    const byteLength = expectedByteLength(handle);
    if (handle.byteLength === byteLength) return { tensor, handle };
    throw new ModelFormatError(
      `Weight "${tensor.name}" is ${describeShape(handle)}, ${byteLength} bytes, but promises ${handle.byteLength}.`,
    );
  }
  if (tensor.stringData.length > 0 || tensor.dims.includes(0n)) return { tensor };
  throw new ModelFormatError(
    `Initializer "${tensor.name}" has no weight: add it to the model's weights, or remove it.`,
  );
}

/** Where external weights go. */
interface Target {
  /** The first file; the others are numbered. */
  readonly location: string;
  readonly thresholdBytes: number;
  readonly fileBytes: number;
}

function target(storage: ModelStorage | undefined, { modelFile, choice, isTaken }: StorageRequest): Target {
  const fromSource = storage?.kind === 'external' ? storage : undefined;
  const sourceName = fromSource?.files.length === 1 ? fromSource.files[0] : undefined;
  const external = typeof choice === 'object' ? choice.external : undefined;
  const wanted = external?.location ?? sourceName ?? `${modelFile}_data`;
  const location = normaliseRelativePath(wanted);
  if (location === undefined) throw new ModelFormatError(`"${wanted}" is not a file name inside the model's folder.`);
  const thresholds = {
    inline: Infinity,
    source: fromSource?.thresholdBytes ?? Infinity,
    external: external?.thresholdBytes ?? DEFAULT_THRESHOLD_BYTES,
  };
  return {
    // A model file may declare itself as external data; the copy cannot.
    location: location === modelFile || isTaken?.(location) ? `${modelFile}_data` : location,
    thresholdBytes: thresholds[typeof choice === 'object' ? 'external' : choice],
    fileBytes: external?.fileBytes ?? MAX_FILE_BYTES,
  };
}

function place(
  tensors: readonly PlannedTensor[],
  { location, thresholdBytes, fileBytes }: Target,
): readonly PlannedTensor[] {
  let [file, end] = [0, 0];
  return tensors.map(({ tensor, handle }) => {
    if (handle === undefined) return { tensor };
    if (handle.byteLength < leastOutside(handle, thresholdBytes) || handle.byteLength === 0) return { tensor, handle };
    const { alignment } = ALIGNMENTS.find(({ fromBytes }) => handle.byteLength >= fromBytes)!;
    let offset = Math.ceil(end / alignment) * alignment;
    if (end > 0 && offset + handle.byteLength > fileBytes) [file, offset] = [file + 1, 0];
    end = offset + handle.byteLength;
    return { tensor, handle, outside: { location: chunkName(location, file), offset } };
  });
}

/** Named as transformers.js expects. */
const chunkName = (location: string, at: number): string => (at === 0 ? location : `${location}_${at}`);

/** Least bytes of an external weight; small shapes stay inside even where the source had them outside. */
function leastOutside({ dataType }: TensorHandle, thresholdBytes: number): number {
  return SHAPE_TYPES.has(dataType) ? Math.max(thresholdBytes, DEFAULT_THRESHOLD_BYTES) : thresholdBytes;
}

/** Most bytes that the initializers can take inside the protobuf. */
function inlineBytes(tensors: readonly PlannedTensor[]): number {
  return tensors.reduce((sum, planned) => sum + TAG_BYTES + tensorFragment(planned).byteLength, 0);
}
