/** Random access to bytes that need not be in memory: a file, a blob, a fetched range. */
export interface ByteSource {
  /** For messages: a file name or URL. */
  readonly name: string;
  readonly byteLength: number;
  /** The file that it is, where it is one that others may open by its path. */
  readonly file?: { readonly folder: string; readonly name: string } | undefined;
  /** A buffer of its own each call, for the reader may free it. @throws ModelFormatError when the range leaves the source. */
  read(offset: number, length: number): Promise<Uint8Array<ArrayBuffer>>;
}

/** A folder of named sources. `path` is relative, with `/`; a path that leaves the folder is refused. */
export interface SourceFolder {
  readonly name: string;
  /** Resolves to `undefined` when the file does not exist. @throws ModelFormatError when `path` leaves the folder. */
  open(path: string): Promise<ByteSource | undefined>;
}

/** Where written bytes go: a file being built. */
export interface ByteSink {
  write(bytes: Uint8Array): Promise<void>;
}

/** A folder that files are written into. */
export interface SinkFolder {
  create(path: string): Promise<ByteSink & { close(): Promise<void> }>;
}
