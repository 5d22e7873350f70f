import { ModelFormatError } from '../errors.js';
import { anyText, type Fault, type Fields, findFault, optional, withFields } from '../options/kinds.js';
import { ENVIRONMENT } from './measurement-kinds.js';
import type { ModelOrigin } from './model-origin.js';

/** Kind of a JSON file with tensors next to it; also the name of the file in a folder. */
export type SavedKind = 'recipe' | 'statistics';

/** Fields of every such JSON file. */
export interface SavedFile {
  readonly schema: string;
  /** Version of this library. */
  readonly version: string;
  readonly model: ModelOrigin;
  readonly tensors: {
    /** File next to this one. */
    readonly file: string;
    readonly sha256: string;
  };
}

interface Expected {
  readonly kind: SavedKind;
  readonly schema: string;
  /** Further fields of this kind. */
  readonly fields: Fields;
}

/** Checks of the fields of a `SavedFile`, without its schema. */
export const SAVED_FILE: Fields = {
  version: anyText,
  environment: optional(ENVIRONMENT),
  model: withFields({ sha256: anyText, layout: anyText }),
  tensors: withFields({ file: anyText, sha256: anyText }),
};

/**
 * Checks the fields of a saved file.
 * @param file for messages
 * @throws ModelFormatError naming file and field.
 */
export function checkSavedFile<T extends SavedFile>(
  found: Partial<T>,
  file: string,
  { kind, schema, fields }: Expected,
): void {
  if (found.schema !== schema)
    throw damaged(kind, `${file}: its schema is ${JSON.stringify(found.schema)}, expected "${schema}"`);
  const fault = findFault(found, withFields({ ...SAVED_FILE, ...fields }));
  if (fault !== undefined) throw damaged(kind, `${file}: ${describeFault(fault)}`);
}

/** Describes an invalid field of a JSON file. Values are quoted in part, since files may come from others. */
export const describeFault = ({ place, value, kind: { expected } }: Fault): string =>
  `${place} is ${nameOf(value)}, expected ${expected}`;

function nameOf(value: unknown): string {
  if (value === undefined) return 'missing';
  if (Array.isArray(value)) return 'a list';
  if (typeof value === 'object' && value !== null) return 'an object';
  return JSON.stringify(value).slice(0, 40);
}

/** Error about a damaged saved file, with a remedy. */
export function damaged(kind: SavedKind, problem: string): ModelFormatError {
  return new ModelFormatError(`${problem}. Get the ${kind} again, or make a new one.`);
}
