/** Random access to bytes that need not be in memory: a file, a blob, a fetched range. */
export interface ByteSource {
  /** For messages: a file name or URL. */
  readonly name: string;
  readonly byteLength: number;
  /** Path of the file; absent where it cannot be opened by path. */
  readonly file?: { readonly folder: string; readonly name: string } | undefined;
  /** Returns a new buffer on each call, which the caller may free. @throws ModelFormatError when the range exceeds the source. */
  read(offset: number, length: number): Promise<Uint8Array<ArrayBuffer>>;
}

/** A folder of named sources. `path` is relative, with `/`; a path outside the folder is refused. */
export interface SourceFolder {
  readonly name: string;
  /** Resolves to `undefined` when the file does not exist. @throws ModelFormatError when `path` is outside the folder. */
  open(path: string): Promise<ByteSource | undefined>;
}

/** A file that is being written. */
export interface ByteSink {
  write(bytes: Uint8Array): Promise<void>;
}

/** A folder that files are written into. */
export interface SinkFolder {
  create(path: string): Promise<ByteSink & { close(): Promise<void> }>;
}
