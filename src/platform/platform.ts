import type { LimitTime } from '../calibration/tokenizer.js';
import { OptionError } from '../errors.js';
import type { ByteSink, ByteSource } from '../onnx/byte-source.js';
import type { Engine } from '../runtime/engine.js';
import type { ScratchFile } from '../runtime/tensor-store.js';
import type { HubStore } from './hub-store.js';
import type { Workspace, WorkspaceRequest } from './journal.js';

/** Ports that differ between platforms. All code that reads, writes or runs anything uses these alone. */
export interface Platform {
  readonly files: Files;
  /** Makes scratch space that is gone after `dispose`, or with the process. @throws OptionError when there is no room for it. */
  createScratch(): Promise<ScratchFile>;
  /**
   * Takes hold of the workspace of an output; undefined for one that is gone with its page. Absent: runs begin again here.
   * @throws OptionError when another run holds it, or it has anything in it that no run wrote.
   */
  openWorkspace?(request: WorkspaceRequest): Promise<Workspace | undefined>;
  /**
   * Whether a run that was cut off may have left something in the workspace of an output. An output whose place another was about
   * to take has its name again.
   */
  hasUnfinishedRun?(output: string): Promise<boolean>;
  /** Where models of the Hugging Face Hub are kept. Absent: ids of models mean nothing here. */
  readonly hub?: HubStore | undefined;
  /** Begins a SHA-256. */
  createHash(): ByteHash;
  /** Caches hashes of large files from run to run. Absent: they are computed each time. */
  readonly hashCache?: HashCache | undefined;
  /** @throws OptionError for an execution provider that is not known here; EngineError when none of them starts. */
  createEngine(choice: EngineChoice): Promise<Engine>;
  /** Ends what takes too long, where the platform can; elsewhere it runs to its end. */
  readonly limitTime: LimitTime;
  /** Cores that threads may run on, as far as the platform tells. */
  readonly coreCount?: number | undefined;
  /** Memory that this process may have, in bytes, as far as the platform tells. */
  readonly memoryBytes?: number | undefined;
  describeMachine(): Machine;
  /** Largest memory that this process had, in bytes; undefined where nothing tells. */
  peakMemoryBytes(): number | undefined;
}

/** Files by path. What takes a path takes what `resolve` returns: absolute, and the name that messages show. */
export interface Files {
  /** Joins parts of a path and makes it absolute; a part that is absolute itself replaces those before it. */
  resolve(...parts: readonly string[]): string;
  /** Takes a path apart; the folder of the outermost one is itself. */
  split(path: string): { readonly folder: string; readonly name: string };
  /** A path as seen from a folder, with `/`: empty for the folder itself, undefined for what lies elsewhere. */
  relative(folder: string, path: string): string | undefined;
  /** Kind of the entry; undefined where there is none. @throws OptionError when the system does not permit access. */
  kindOf(path: string): Promise<EntryKind | undefined>;
  /** Files and folders in a folder, by name; links to folders are left out. */
  list(folder: string): Promise<readonly Entry[]>;
  /**
   * Opens a file; undefined for nothing.
   * @param pipes Whether a pipe is read into memory, and not refused as no file; devices always are. Default false.
   * @throws ModelFormatError when it is not a file, or cannot be read.
   */
  open(path: string, pipes?: boolean): Promise<OpenFile | undefined>;
  /** Makes a file, or replaces it, and the folders that it lies in. @throws OptionError when it cannot be written. */
  create(path: string): Promise<FileSink>;
  /** Adds to a file. @returns bytes that it has now. @throws OptionError when it has changed meanwhile, or cannot be written. */
  append(path: string, addition: Addition): Promise<number>;
  /** Writes files one after the other; they take their names in that order when all are complete. @throws OptionError */
  writeTogether(files: ReadonlyMap<string, (sink: ByteSink) => Promise<void>>): Promise<void>;
  /**
   * Checks that a folder can be made, before hours of work go into it.
   * @returns its path with links resolved.
   * @throws OptionError when it exists (without `force`, or with anything in it that no run wrote), is a file or a link, touches
   * the source, or cannot be made there: a name too long, no permission, no room.
   */
  checkOutput(request: OutputRequest): Promise<string>;
  /**
   * Checks that a file can be made or replaced, before hours of work go into it.
   * @throws OptionError when it is a folder, or cannot be made there.
   */
  checkFile(path: string): Promise<void>;
  /** The path with links resolved as far as it exists. */
  real(path: string): Promise<string>;
  /** Changes whenever a file does, as far as the system tells: its size, its time. Undefined for nothing. */
  stamp(path: string): Promise<string | undefined>;
  /**
   * Makes a folder that appears under its name only when it is complete, with a list of its files next to them (`MANIFEST`). When
   * `build` fails nothing is left.
   * @param build Fills the folder whose path it gets.
   * @throws what `checkOutput` throws, and whatever `build` does.
   */
  buildFolder<T>(request: OutputRequest, build: (folder: string) => Promise<T>): Promise<T>;
}

/** Longest text that is read as a whole, in bytes: V8 makes no longer one. */
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

/** A file that is whole when it is closed. */
export interface FileSink extends ByteSink {
  close(): Promise<void>;
}

export interface Addition {
  readonly text: string;
  /** Where the text goes; what lies behind is cut off. */
  readonly start: number;
  /** Length that the file was left with; 0 for one that is not there. */
  readonly expectedBytes: number;
}

export interface OutputRequest {
  /** Folder to be made, as the user named it. */
  readonly output: string;
  /** Folder that the model comes from. */
  readonly source: string;
  /** Whether a folder that an earlier run wrote may be replaced. Default false. */
  readonly force?: boolean | undefined;
  /** Bytes that it takes at least. Default 0. */
  readonly byteLength?: number | undefined;
  /** The run in the folder's manifest, see `FolderManifest`. */
  readonly run?: string | undefined;
  /** Workspace that the run has locked already: of this output, or of a folder that contains it. */
  readonly workspace?: Workspace | undefined;
}

/** SHA-256s by the name of what was hashed, in hexadecimal both. Neither call throws. */
export interface HashCache {
  get(name: string): Promise<string | undefined>;
  put(name: string, hash: string): Promise<void>;
}

/** A SHA-256 over bytes that come piece by piece. */
export interface ByteHash {
  update(bytes: Uint8Array): void;
  /** In hexadecimal; to be called once, last. */
  digest(): string;
}

/** The machine, for a report. */
export interface Machine {
  /** `Node.js 20.11.0`, say. */
  readonly runtime: string;
  /** `linux x64`, say. */
  readonly platform: string;
  readonly cpu?: string;
}

/** Refuses an engine of one's own together with choices that it has made already. @throws OptionError */
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
 * Threads that share one operator's work unless a call says otherwise: the same on every machine, so that all of one kind make
 * the same bytes. On two cores they take less than two threads that spin.
 */
export const DEFAULT_THREADS = 8;

/** Engine and execution provider of a call. */
export interface EngineChoice {
  /**
   * Default `cpu` (in browsers `wasm`). A list is in order of preference. In Node.js `wasm` is the WebAssembly build, which also
   * stands in for `cpu` where onnxruntime-node cannot be loaded.
   */
  readonly executionProvider?: ExecutionProviderChoice | undefined;
  /**
   * Threads that share one operator's work, whole and at least 0. Results depend on their number in the last bits, so that the
   * default goes by no machine. 0: ONNX Runtime chooses, by the cores. Default `DEFAULT_THREADS`, 8. Not for `wasm`, whose
   * number is set in `ort.env.wasm.numThreads`.
   */
  readonly threads?: number | undefined;
  /** An engine of your own, in place of `executionProvider` and `threads`. Default: one of onnxruntime-node. */
  readonly engine?: Engine | undefined;
}

/** A platform with some members replaced. Getters remain getters: reading `hub` reads the user's token. */
export const withMembers = (platform: Platform, members: Partial<Platform>): Platform =>
  Object.defineProperties({} as Platform, {
    ...Object.getOwnPropertyDescriptors(platform),
    ...Object.getOwnPropertyDescriptors(members),
  });
