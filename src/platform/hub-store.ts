/** Where the Hub is, and how it is asked. */
export interface HubSettings {
  /** Address of the Hub without a slash at its end: `HF_ENDPOINT`, in pages `hub.endpoint`. */
  readonly endpoint: string;
  /** Sent only to that address: `HF_TOKEN`, or the file that `hf auth login` writes; in pages `hub.token`. */
  readonly token?: string | undefined;
  /** Use the store only: `HF_HUB_OFFLINE`. */
  readonly offline: boolean;
  /** Who asks, as `User-Agent`; absent in pages, where browsers say it. */
  readonly agent?: string | undefined;
  /** Names of the settings, for messages. */
  readonly names: { readonly endpoint: string; readonly token: string };
  /** Other limits than the usual ones. */
  readonly limits?: Partial<HubLimits> | undefined;
}

/** How long an address that may be anybody's is waited for. */
export interface HubLimits {
  /** Milliseconds until an answer begins. */
  readonly answerMs: number;
  /** Milliseconds in which what comes brings `paceBytes`, or ends. */
  readonly paceMs: number;
  readonly paceBytes: number;
  /** Milliseconds for all pages of a listing, and their number. */
  readonly listingMs: number;
  readonly listingPages: number;
  /** Milliseconds until a question is asked again; twice as many each time. */
  readonly retryMs: number;
  /** Milliseconds that a question waits in all because the Hub asked it to, or did not say how long. */
  readonly retryWaitMs: number;
}

/** A file of a repository at a commit. */
export interface HubFile {
  /** Relative to the repository, with `/`. */
  readonly path: string;
  readonly byteLength: number;
  /** Hash of its content in hexadecimal: SHA-256 for large files, else that of a git blob. */
  readonly hash: string;
  readonly algorithm: 'sha256' | 'git-blob';
}

/** A repository at one moment. */
export interface HubCommit {
  /** `org/name` */
  readonly repo: string;
  /** 40 hexadecimal digits. */
  readonly commit: string;
}

/**
 * Where files of the Hub are kept, in the layout that the Hub's clients share: contents by their hashes, and for each commit a
 * folder that shows them under their names.
 */
export interface HubStore {
  readonly settings: HubSettings;
  /** Loads the Hub's own client, the module `@huggingface/hub`. Bundles of platforms without a Hub hold nothing of it. */
  loadClient(): Promise<object>;
  /** Folder of a commit's files, as the platform's `Files` name it; it need not be there. */
  folderOf(commit: HubCommit): string;
  /** Commit that a revision named when it was last asked for; undefined where it never was. */
  readRevision(repo: string, revision: string): Promise<string | undefined>;
  writeRevision(commit: HubCommit, revision: string): Promise<void>;
  /** Whether a commit's file is there, with as many bytes as it should have. A content that is there gets the name too. */
  has(commit: HubCommit, file: HubFile): Promise<boolean>;
  /** @throws OptionError when there is no room for it. */
  receive(commit: HubCommit, file: HubFile): Promise<IncomingFile>;
  /** Waits until no other process receives files of a repository. @returns what lets others in. */
  holdRepo(repo: string, signal: AbortSignal | undefined): Promise<() => Promise<void>>;
  createHash(algorithm: 'sha1' | 'sha256'): { update(bytes: Uint8Array): void; digest(): string };
  /** Contents of a file to be sent, read as they go where the platform can: a `Blob`, or the `URL` of a file. */
  contentOf(path: string): Promise<object>;
}

/** A file on its way; what has come remains when the connection, or the process, ends. */
export interface IncomingFile {
  /** Bytes that are here. */
  readonly byteLength: number;
  /** The downloaded part, piece by piece. */
  read(): AsyncIterable<Uint8Array>;
  write(bytes: Uint8Array): Promise<void>;
  /** Throws away what is here. */
  restart(): Promise<void>;
  /** Gives it its names. */
  complete(): Promise<void>;
  /** To be called last, however it ended. */
  close(): Promise<void>;
}
