import { ModelFormatError } from '../errors.js';
import type { ModelOrigin } from './model-origin.js';

/** What is kept as a JSON file with tensors beside it; also the name of the file in a folder. */
export type SavedKind = 'recipe' | 'statistics';

/** What every such JSON file says. */
export interface SavedFile {
  readonly schema: string;
  /** Version of this library. */
  readonly version: string;
  readonly model: ModelOrigin;
  readonly tensors: {
    /** File beside this one. */
    readonly file: string;
    readonly sha256: string;
  };
}

interface Expected {
  readonly kind: SavedKind;
  readonly schema: string;
  /** Fields of its own that must be texts, by name. */
  readonly texts?: Readonly<Record<string, unknown>>;
}

/**
 * Checks what a JSON object has in common with every saved file; the other fields are as they were found.
 * @param file for messages
 * @throws ModelFormatError naming file and field.
 */
export function checkSavedFile<T extends SavedFile>(
  found: Partial<T>,
  file: string,
  { kind, schema, texts }: Expected,
): void {
  if (found.schema !== schema)
    throw damaged(kind, `${file}: its schema is ${JSON.stringify(found.schema)}, expected "${schema}"`);
  const { version, model, tensors } = found;
  const all = {
    version,
    'model.sha256': model?.sha256,
    'model.layout': model?.layout,
    'tensors.file': tensors?.file,
    'tensors.sha256': tensors?.sha256,
    ...texts,
  };
  const missing = Object.entries(all).find(([, value]) => typeof value !== 'string');
  if (missing === undefined) return;
  throw damaged(kind, `${file}: ${missing[0]} is ${JSON.stringify(missing[1])}, expected a text`);
}

/** A saved file that does not hold what it should, with what to do. */
export function damaged(kind: SavedKind, what: string): ModelFormatError {
  return new ModelFormatError(`${what}. Get the ${kind} again, or make the ${kind} anew.`);
}
