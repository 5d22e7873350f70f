import { mkdtemp, open, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ModelFormatError } from '../errors.js';
import type { ByteSource } from '../onnx/byte-source.js';
import type { TensorHandle } from '../onnx/onnx-model.js';
import { expectedByteLength, sourceHandle, type TensorShape } from '../onnx/tensor-handle.js';
import { writing } from './file-folder.js';
import { reason } from './file-source.js';

/** A temporary file that grows at its end and can be read anywhere. */
export interface SpillFile extends ByteSource {
  /** Writes bytes behind the last ones; resolves to their offset. @throws OptionError when the disk is full. */
  append(bytes: Uint8Array): Promise<number>;
  /** Writes bytes over what lies at `offset`, or behind the end. @throws OptionError when the disk is full. */
  write(offset: number, bytes: Uint8Array): Promise<void>;
  /** Fills `bytes` from `offset` on. @throws ModelFormatError when the file ends before. */
  readInto(offset: number, bytes: Uint8Array): Promise<void>;
  /** Writes a tensor's raw bytes; it can be read until `dispose`. @throws ModelFormatError when their number is not the shape's. */
  appendTensor(shape: TensorShape, bytes: Uint8Array): Promise<TensorHandle>;
  /** Frees the space. Nothing can be read afterwards. */
  dispose(): Promise<void>;
}

export interface SpillOptions {
  /** Existing folder to put the file into. Default: the system's temporary folder. */
  readonly parent?: string;
}

/**
 * Makes a temporary file. Where the system allows it, the file has no name any more when this returns, so that its
 * space is freed however the process ends.
 * @throws OptionError when the folder takes no file.
 */
export async function createSpillFile({ parent = tmpdir() }: SpillOptions = {}): Promise<SpillFile> {
  const folder = await writing(parent, () => mkdtemp(join(parent, 'fang-prune-')));
  const path = join(folder, 'spill');
  const file = await writing(path, () => open(path, 'wx+'));
  const removeFolder = () => rm(folder, { recursive: true, force: true }).catch(() => undefined);
  await removeFolder();
  let byteLength = 0;

  const spill: SpillFile = {
    name: path,
    get byteLength() {
      return byteLength;
    },
    async append(bytes) {
      // Taken at once, so that appends may overlap.
      const offset = byteLength;
      byteLength += bytes.byteLength;
      await spill.write(offset, bytes);
      return offset;
    },
    async write(offset, bytes) {
      byteLength = Math.max(byteLength, offset + bytes.byteLength);
      for (let written = 0; written < bytes.byteLength; ) {
        const rest = bytes.byteLength - written;
        const result = await writing(path, () => file.write(bytes, written, rest, offset + written));
        written += result.bytesWritten;
      }
    },
    async appendTensor(shape, bytes) {
      if (bytes.byteLength !== expectedByteLength(shape)) {
        throw new ModelFormatError(
          `A tensor of ${expectedByteLength(shape)} bytes was to be spilled as ${bytes.byteLength}.`,
        );
      }
      return sourceHandle(shape, spill, await spill.append(bytes));
    },
    async read(offset, length) {
      const bytes = new Uint8Array(length);
      await spill.readInto(offset, bytes);
      return bytes;
    },
    async readInto(offset, bytes) {
      const { byteLength: length } = bytes;
      for (let filled = 0; filled < length; ) {
        const { bytesRead } = await file.read(bytes, filled, length - filled, offset + filled).catch((cause) => {
          throw new ModelFormatError(`Cannot read the temporary file ${path}: ${reason(cause)}.`, { cause });
        });
        if (bytesRead === 0)
          throw new ModelFormatError(`${path}: ${length} bytes from ${offset} leave its ${byteLength} bytes.`);
        filled += bytesRead;
      }
    },
    async dispose() {
      await file.close().catch(() => undefined);
      await removeFolder();
    },
  };
  return spill;
}
