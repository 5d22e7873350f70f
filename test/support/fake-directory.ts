import type { DirectoryHandle, FileHandle } from '../../src/web/handle-folder.js';

/** A directory in memory like those of browsers: bytes appear when their writer is closed, and names are checked. */
export class FakeDirectory implements DirectoryHandle {
  readonly kind = 'directory';
  readonly #children = new Map<string, FakeDirectory | FakeFile>();

  /** @param allows whether files can be written in place, as in workers, and to how many bytes */
  constructor(
    readonly name: string,
    readonly allows: { readonly inPlace: boolean; readonly room?: number } = { inPlace: true },
  ) {}

  async getDirectoryHandle(name: string, { create = false } = {}): Promise<FakeDirectory> {
    return this.#child(name, {
      create,
      make: () => new FakeDirectory(name, this.allows),
      kind: 'directory',
    }) as FakeDirectory;
  }

  async getFileHandle(name: string, { create = false } = {}): Promise<FakeFile> {
    return this.#child(name, { create, make: () => new FakeFile(this.allows), kind: 'file' }) as FakeFile;
  }

  async removeEntry(name: string, { recursive = false } = {}): Promise<void> {
    const found = this.#children.get(name);
    if (found === undefined) throw new DOMException(name, 'NotFoundError');
    if (found instanceof FakeFile && found.isOpen) throw new DOMException(name, 'NoModificationAllowedError');
    if (found instanceof FakeDirectory && found.#children.size > 0 && !recursive)
      throw new DOMException(name, 'InvalidModificationError');
    this.#children.delete(name);
  }

  async *entries() {
    yield* [...this.#children];
  }

  #child(
    name: string,
    { create, make, kind }: { create: boolean; make: () => FakeDirectory | FakeFile; kind: string },
  ) {
    if (/[\\/]|^\.{0,2}$/.test(name)) throw new TypeError(`"${name}" is no name`);
    if (!this.#children.has(name)) {
      if (!create) throw new DOMException(name, 'NotFoundError');
      this.#children.set(name, make());
    }
    const found = this.#children.get(name)!;
    if (found.kind !== kind) throw new DOMException(name, 'TypeMismatchError');
    return found;
  }
}

class FakeFile implements FileHandle {
  readonly kind = 'file';
  /** Whether it is being written in place; it cannot be removed then. */
  isOpen = false;
  #bytes = new Uint8Array(0);

  async getFile() {
    return new Blob([this.#bytes]);
  }

  async createWritable() {
    const chunks: Uint8Array<ArrayBuffer>[] = [];
    return {
      write: async (bytes: Uint8Array<ArrayBuffer>) => void chunks.push(bytes.slice()),
      close: async () => {
        this.#bytes = new Uint8Array(await new Blob(chunks).arrayBuffer());
      },
    };
  }

  readonly createSyncAccessHandle?: NonNullable<FileHandle['createSyncAccessHandle']>;

  constructor(readonly allows: FakeDirectory['allows']) {
    if (allows.inPlace) this.createSyncAccessHandle = () => this.#openInPlace();
  }

  async #openInPlace() {
    this.isOpen = true;
    return {
      read: (bytes: Uint8Array, { at }: { at: number }) => {
        const found = this.#bytes.subarray(at, at + bytes.byteLength);
        bytes.set(found);
        return found.byteLength;
      },
      write: (bytes: Uint8Array, { at }: { at: number }) => {
        // Chromium's result if there is no room.
        if (at + bytes.byteLength > (this.allows.room ?? Number.POSITIVE_INFINITY)) return 2 ** 32 - 8;
        const grown = new Uint8Array(Math.max(this.#bytes.byteLength, at + bytes.byteLength));
        grown.set(this.#bytes);
        grown.set(bytes, at);
        this.#bytes = grown;
        return bytes.byteLength;
      },
      getSize: () => this.#bytes.byteLength,
      truncate: (size: number) => {
        this.#bytes = this.#bytes.slice(0, size);
      },
      flush: () => undefined,
      close: () => {
        this.isOpen = false;
      },
    };
  }
}
