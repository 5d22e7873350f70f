import type { ByteSource } from '../onnx/byte-source.js';
import type { Entry, EntryKind, FileSink } from '../runtime/platform.js';

/** A folder of a page. Paths are relative to it, with `/`; the empty path is the folder itself. */
export interface WebFolder {
  kindOf(path: string): Promise<EntryKind | undefined>;
  /** Unordered; empty for a missing folder. */
  list(path: string): Promise<readonly Entry[]>;
  /** Undefined if missing. */
  open(path: string): Promise<ByteSource | undefined>;
  /** The file is created or replaced when the sink is closed. */
  create(path: string): Promise<FileSink>;
  /** Renames a file, replacing an existing one. */
  move(from: string, to: string): Promise<void>;
  /** Removes a file, or a folder with all in it. */
  remove(path: string): Promise<void>;
}
