import { OptionError } from '../errors.js';
import { VERSION } from '../version.js';

/** File that lists what a run wrote into a folder, so that a later run knows what it may replace. */
export const MANIFEST = 'fang-prune-files.json';

/** A file of a folder. */
export interface FoundFile {
  /** Relative to the folder, with `/`. */
  readonly path: string;
  /** Undefined for links, empty folders and other entries that are not plain files. */
  readonly byteLength: number | undefined;
}

/** Contents of `fang-prune-files.json`. */
export interface FolderManifest {
  readonly schema: typeof MANIFEST_SCHEMA;
  /** Version of this library. */
  readonly version: string;
  /** Key of runs that write the same folder, see `runKey`; optional. */
  readonly run?: string | undefined;
  /** All files but the manifest itself, by path. */
  readonly files: readonly { readonly path: string; readonly byteLength?: number | undefined }[];
}

const MANIFEST_SCHEMA = 'fang-prune-files/1';

/** Reports, whose sizes are not recorded, since they contain times and are updated with measurements. */
const REPORTS = /(^|\/)fang-prune-report\.(json|html)$/;

export function formatManifest(files: readonly FoundFile[], run?: string): Uint8Array {
  const listed = files.map(({ path, byteLength }) => (REPORTS.test(path) ? { path } : { path, byteLength }));
  const manifest: FolderManifest = { schema: MANIFEST_SCHEMA, version: VERSION, run, files: listed };
  return new TextEncoder().encode(`${JSON.stringify(manifest, null, 2)}\n`);
}

/**
 * Checks that a folder is empty, or contains only the files of its manifest, so that it may be replaced.
 * @param output path as given
 * @param manifest bytes of its manifest; undefined if missing
 * @throws OptionError naming the first file that prevents it.
 */
export async function checkReplaceable(
  output: string,
  files: AsyncIterable<FoundFile> | Iterable<FoundFile>,
  manifest: Uint8Array | undefined,
): Promise<void> {
  const listed = manifest && readManifest(manifest);
  for await (const file of files) {
    const obstacle = findObstacle(file, listed);
    if (obstacle !== undefined)
      throw new OptionError(
        `The output folder ${output} is not replaced: ${obstacle}. Choose another folder, or move away the files to keep.`,
      );
  }
}

/** Sizes of files by path; undefined for any size. */
export type ListedFiles = ReadonlyMap<string, number | undefined>;

/** The reason not to replace a file; undefined if it can be replaced. */
export function findObstacle({ path, byteLength }: FoundFile, listed: ListedFiles | undefined): string | undefined {
  if (listed === undefined) return `it holds ${path}, and no ${MANIFEST} that says what fang-prune wrote there`;
  if (path === MANIFEST) return undefined;
  if (!listed.has(path)) return `its ${MANIFEST} does not list ${path}`;
  if (byteLength === undefined) return `${path} in it is not a plain file`;
  const written = listed.get(path);
  if (written === byteLength || (written === undefined && REPORTS.test(path))) return undefined;
  if (written === undefined) return `its ${MANIFEST} does not say how many bytes of ${path} were written`;
  return `${path} in it has ${byteLength} bytes, and ${written} were written`;
}

/** Parses a manifest; undefined if invalid. */
export function readManifest(bytes: Uint8Array): ListedFiles | undefined {
  try {
    const { schema, files } = JSON.parse(new TextDecoder().decode(bytes)) as FolderManifest;
    return schema === MANIFEST_SCHEMA ? new Map(files.map(({ path, byteLength }) => [path, byteLength])) : undefined;
  } catch {
    return undefined;
  }
}
