import type { ByteSource } from '../../onnx/byte-source.js';
import type { Entry, EntryKind, FileSink } from '../platform.js';

/** A folder of a page. Paths are relative to it, with `/`; the empty one is the folder itself. */
export interface WebFolder {
  kindOf(path: string): Promise<EntryKind | undefined>;
  /** In no order; nothing for a folder that is not there. */
  list(path: string): Promise<readonly Entry[]>;
  /** Undefined for nothing. */
  open(path: string): Promise<ByteSource | undefined>;
  /** The file appears, or is replaced, when the sink is closed. */
  create(path: string): Promise<FileSink>;
  /** Gives a file another name; one that has it is replaced. */
  move(from: string, to: string): Promise<void>;
  /** Removes a file, or a folder with all in it. */
  remove(path: string): Promise<void>;
}
