import type { TensorProto } from 'onnx-buf';
import { ModelFormatError } from '../errors.js';
import type { ByteSource, SourceFolder } from './byte-source.js';
import { normaliseRelativePath } from './relative-path.js';

/** File range of an external tensor. */
export interface ExternalRange {
  readonly file: string;
  readonly source: ByteSource;
  readonly offset: number;
}

/** Finds external tensors; each file is opened once. */
export type ExternalDataReader = (tensor: TensorProto, byteLength: number) => Promise<ExternalRange>;

/**
 * Makes a reader of the external data in a model's folder. It throws ModelFormatError, naming tensor and file, when the
 * location is outside the folder, the file is missing or too short, or the declared length is not `byteLength`.
 */
export function createExternalDataReader(folder: SourceFolder): ExternalDataReader {
  const opened = new Map<string, Promise<ByteSource | undefined>>();
  return async (tensor, byteLength) => {
    const entries = new Map(tensor.externalData.map(({ key, value }) => [key, value]));
    const location = entries.get('location') ?? '';
    const fail = (what: string) =>
      new ModelFormatError(`Tensor "${tensor.name}" has its elements in "${location}" of ${folder.name}, but ${what}`);
    const file = normaliseRelativePath(location);
    if (file === undefined) throw fail('that is not a path inside the folder. Only files next to the model are read.');
    const offset = parseCount(entries.get('offset') ?? '0');
    const length = parseCount(entries.get('length') ?? `${byteLength}`);
    if (offset === undefined) throw fail(`its offset "${entries.get('offset')}" is not a number of bytes.`);
    if (length !== byteLength) {
      throw fail(`its length "${entries.get('length')}" is not the ${byteLength} bytes of its shape and type.`);
    }
    if (!opened.has(file)) opened.set(file, folder.open(file));
    const source = await opened.get(file)!;
    if (source === undefined) throw fail('there is no such file. Put it next to the model file.');
    if (offset + length > source.byteLength) {
      throw fail(`bytes ${offset} to ${offset + length} exceed its ${source.byteLength} bytes. Get the file again.`);
    }
    return { file, source, offset };
  };
}

function parseCount(text: string): number | undefined {
  const count = /^\d{1,16}$/.test(text) ? Number(text) : NaN;
  return Number.isSafeInteger(count) ? count : undefined;
}
