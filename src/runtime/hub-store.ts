/** Settings of access to the Hub. */
export interface HubSettings {
  /** Address of the Hub without a slash at its end: `HF_ENDPOINT`, in pages `hub.endpoint`. */
  readonly endpoint: string;
  /** Sent only to that address: `HF_TOKEN`, or the file that `hf auth login` writes; in pages `hub.token`. */
  readonly token?: string | undefined;
  /** Offline mode, with cached files only: `HF_HUB_OFFLINE`. */
  readonly offline: boolean;
  /** `User-Agent` of requests; absent in browsers, which set their own. */
  readonly agent?: string | undefined;
  /** Names of the settings, for messages. */
  readonly names: { readonly endpoint: string; readonly token: string };
  /** Overrides of limits. */
  readonly limits?: Partial<HubLimits> | undefined;
}

/** Timeouts and limits, since the endpoint may be untrusted. */
export interface HubLimits {
  /** Timeout in ms until a response begins. */
  readonly answerMs: number;
  /** Interval in ms in which a download must receive `paceBytes`. */
  readonly paceMs: number;
  readonly paceBytes: number;
  /** Limits of a listing: ms for all pages, and their number. */
  readonly listingMs: number;
  readonly listingPages: number;
  /** Delay in ms before a retry, doubled each time. */
  readonly retryMs: number;
  /** Largest total waiting time in ms of a request after responses that ask to retry later. */
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

/** A repository at a commit. */
export interface HubCommit {
  /** `org/name` */
  readonly repo: string;
  /** 40 hexadecimal digits. */
  readonly commit: string;
}

/**
 * Cache of Hub files, in the layout of the Hub's clients: blobs by hash, and for each commit a snapshot folder with
 * their names.
 */
export interface HubStore {
  readonly settings: HubSettings;
  /** Loads the Hub's own client, the module `@huggingface/hub`, only when the Hub is used. */
  loadClient(): Promise<object>;
  /** Folder of a commit's files, as a path of the platform's `Files`; it need not exist. */
  folderOf(commit: HubCommit): string;
  /** Last known commit of a revision; undefined if unknown. */
  readRevision(repo: string, revision: string): Promise<string | undefined>;
  writeRevision(commit: HubCommit, revision: string): Promise<void>;
  /** Whether a commit's file is cached with the expected size. A cached blob is linked under the name. */
  has(commit: HubCommit, file: HubFile): Promise<boolean>;
  /** @throws OptionError when there is not enough space. */
  receive(commit: HubCommit, file: HubFile): Promise<IncomingFile>;
  /** Locks the downloads of a repository. @returns a function that releases the lock */
  holdRepo(repo: string, signal: AbortSignal | undefined): Promise<() => Promise<void>>;
  createHash(algorithm: 'sha1' | 'sha256'): { update(bytes: Uint8Array): void; digest(): string };
  /** Content of a file to upload, streamed if the platform supports it: a `Blob`, or the `URL` of a file. */
  contentOf(path: string): Promise<object>;
}

/** A file being downloaded; partial contents remain when the connection or the process ends. */
export interface IncomingFile {
  /** Downloaded bytes. */
  readonly byteLength: number;
  /** The downloaded part, piece by piece. */
  read(): AsyncIterable<Uint8Array>;
  write(bytes: Uint8Array): Promise<void>;
  /** Deletes the downloaded part. */
  restart(): Promise<void>;
  /** Renames the complete file to its final names. */
  complete(): Promise<void>;
  /** Closes it, also after failures. */
  close(): Promise<void>;
}
