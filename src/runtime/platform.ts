import type { LimitTime } from '../calibration/tokenizer.js';
import { OptionError } from '../errors.js';
import type { ByteSink, ByteSource } from '../onnx/byte-source.js';
import type { Engine } from './engine.js';
import type { HubStore } from './hub-store.js';
import type { Workspace, WorkspaceRequest } from './journal.js';
import type { ScratchFile } from './tensor-store.js';

/** Ports of a platform, used by all code that reads, writes or runs graphs. */
export interface Platform {
  readonly files: Files;
  /** Makes scratch space that is gone after `dispose`, or with the process. @throws OptionError when there is not enough space. */
  createScratch(): Promise<ScratchFile>;
  /**
   * Locks the workspace of an output; undefined for outputs in memory. Absent: runs cannot be resumed.
   * @throws OptionError when another run holds it, or it contains files that no run wrote.
   */
  openWorkspace?(request: WorkspaceRequest): Promise<Workspace | undefined>;
  /** Whether an interrupted run may have left checkpoints. An interrupted replacement of the output is undone or completed first. */
  hasUnfinishedRun?(output: string): Promise<boolean>;
  /** Cache of the Hugging Face Hub. Absent: model ids are not supported. */
  readonly hub?: HubStore | undefined;
  /** Creates a SHA-256 hash. */
  createHash(): ByteHash;
  /** Persistent cache of hashes of large files. Absent: no cache. */
  readonly hashCache?: HashCache | undefined;
  /** @throws OptionError for an unknown execution provider; EngineError when none of them starts. */
  createEngine(choice: EngineChoice): Promise<Engine>;
  /** Limits the time of a synchronous action, if supported. */
  readonly limitTime: LimitTime;
  /** Available cores, if known. */
  readonly coreCount?: number | undefined;
  /** Memory limit of this process in bytes, if known. */
  readonly memoryBytes?: number | undefined;
  describeMachine(): Machine;
  /** Peak memory of this process in bytes; undefined if unknown. */
  peakMemoryBytes(): number | undefined;
}

/** File access by path. Paths are those that `resolve` returns: absolute, and shown in messages. */
export interface Files {
  /** Joins path parts to an absolute path; an absolute part replaces earlier ones. */
  resolve(...parts: readonly string[]): string;
  /** Splits a path into folder and name; a root is its own folder. */
  split(path: string): { readonly folder: string; readonly name: string };
  /** A path relative to a folder, with `/`: empty for the folder itself, undefined outside it. */
  relative(folder: string, path: string): string | undefined;
  /** Kind of the entry; undefined if missing. @throws OptionError without permission */
  kindOf(path: string): Promise<EntryKind | undefined>;
  /** Entries of a folder, by name, without links to folders. */
  list(folder: string): Promise<readonly Entry[]>;
  /**
   * Opens a file; undefined if missing.
   * @param pipes Whether a pipe is read into memory instead of refused; devices are always refused. Default false.
   * @throws ModelFormatError when it is not a file, or cannot be read.
   */
  open(path: string, pipes?: boolean): Promise<OpenFile | undefined>;
  /** Creates or replaces a file, with its parent folders. @throws OptionError when it cannot be written. */
  create(path: string): Promise<FileSink>;
  /** Appends to a file. @returns its new size @throws OptionError when it has changed meanwhile, or cannot be written */
  append(path: string, addition: Addition): Promise<number>;
  /** Writes files, and renames them in order when all are complete. @throws OptionError */
  writeTogether(files: ReadonlyMap<string, (sink: ByteSink) => Promise<void>>): Promise<void>;
  /**
   * Checks in advance that a folder can be created.
   * @returns its path with links resolved.
   * @throws OptionError when it exists (without `force`, or with files that no run wrote), is a file or a link,
   *   overlaps the source, or cannot be created: name too long, no permission, no space.
   */
  checkOutput(request: OutputRequest): Promise<string>;
  /**
   * Checks in advance that a file can be created or replaced.
   * @throws OptionError when it is a folder, or cannot be created.
   */
  checkFile(path: string): Promise<void>;
  /** The path with links resolved as far as it exists. */
  real(path: string): Promise<string>;
  /**
   * Version of a file by size and time; undefined if missing.
   * @param withChangeTime also by ctime, which programs cannot set, but which new links and permissions change
   */
  stamp(path: string, withChangeTime?: boolean): Promise<string | undefined>;
  /**
   * Builds a folder that appears only when it is complete, with a manifest of its files (`MANIFEST`). If `build` fails
   * nothing remains.
   * @param build Fills the folder at the given path.
   * @throws what `checkOutput` throws, and whatever `build` does.
   */
  buildFolder<T>(request: OutputRequest, build: (folder: string) => Promise<T>): Promise<T>;
}

/** Longest text that is read as a whole, in bytes: V8's limit of strings. */
export const MAX_TEXT_BYTES = 2 ** 29 - 24;

export type EntryKind = 'file' | 'folder';

export interface Entry {
  readonly name: string;
  readonly kind: EntryKind;
}

/** A file that can be read until it is closed. */
export interface OpenFile extends ByteSource {
  close(): Promise<void>;
}

/** A file that is complete when it is closed. */
export interface FileSink extends ByteSink {
  close(): Promise<void>;
}

export interface Addition {
  readonly text: string;
  /** Offset of the text; later bytes are truncated. */
  readonly start: number;
  /** Expected length of the file; 0 for a new one. */
  readonly expectedBytes: number;
}

export interface OutputRequest {
  /** Folder to be made, path as given. */
  readonly output: string;
  /** Folder of the source model. */
  readonly source: string;
  /** Whether a folder that an earlier run wrote may be replaced. Default false. */
  readonly force?: boolean | undefined;
  /** Least bytes. Default 0. */
  readonly byteLength?: number | undefined;
  /** Run key for the manifest, see `FolderManifest`. */
  readonly run?: string | undefined;
  /** Locked workspace of this output, or of a folder that contains it. */
  readonly workspace?: Workspace | undefined;
}

/** Cache of SHA-256 hashes by key, both in hexadecimal. Neither call throws. */
export interface HashCache {
  get(name: string): Promise<string | undefined>;
  put(name: string, hash: string): Promise<void>;
}

/** An incremental SHA-256. */
export interface ByteHash {
  update(bytes: Uint8Array): void;
  /** Hexadecimal digest; to be called once, last. */
  digest(): string;
}

/** The machine, for a report. */
export interface Machine {
  /** Such as `Node.js 20.11.0`. */
  readonly runtime: string;
  /** Such as `linux x64`. */
  readonly platform: string;
  readonly cpu?: string;
}

/** Refuses a custom engine together with options of engine creation. @throws OptionError */
export function checkOwnEngine({ engine, executionProvider, threads }: EngineChoice): void {
  const other = executionProvider !== undefined ? 'executionProvider' : threads !== undefined ? 'threads' : undefined;
  if (engine === undefined || other === undefined) return;
  throw new OptionError(
    `engine and ${other} are both given; an engine has chosen its ${other} already. Leave one out.`,
  );
}

/** One execution provider, or several in order of preference, in ONNX Runtime's names. */
export type ExecutionProviderChoice = string | readonly string[];

/**
 * Default number of intra-op threads: equal on every machine, so that results are reproducible. On two cores they take
 * less time than two spinning threads.
 */
export const DEFAULT_THREADS = 8;

/** Engine and execution provider of a call. */
export interface EngineChoice {
  /**
   * Default `cpu` (in browsers `wasm`). A list is in order of preference. In Node.js `wasm` is the WebAssembly build,
   * which also replaces `cpu` if onnxruntime-node cannot be loaded.
   */
  readonly executionProvider?: ExecutionProviderChoice | undefined;
  /**
   * Intra-op threads, an integer of at least 0. The last bits of results depend on their number, so that the default is
   * the same on every machine. 0: ONNX Runtime chooses by the cores. Default `DEFAULT_THREADS`, 8. Not for `wasm`,
   * whose number is set in `ort.env.wasm.numThreads`.
   */
  readonly threads?: number | undefined;
  /** A custom engine, instead of `executionProvider` and `threads`. Default: one of onnxruntime-node. */
  readonly engine?: Engine | undefined;
}

/** A platform with replaced members. Getters stay getters: `hub` reads the user's token lazily. */
export const withMembers = (platform: Platform, members: Partial<Platform>): Platform =>
  Object.defineProperties({} as Platform, {
    ...Object.getOwnPropertyDescriptors(platform),
    ...Object.getOwnPropertyDescriptors(members),
  });
