import { HOME } from './web-files.js';
import type { ChosenFile, WebPlace } from './web-place.js';

/** Options for folders: only there a list of files is a folder. */
const FOLDER_OPTIONS: ReadonlySet<string> = new Set<FolderOption>([
  'model',
  'dense',
  'pruned',
  'reference',
  'out',
  'recipe',
  'statistics',
]);

export type FolderOption = 'model' | 'dense' | 'pruned' | 'reference' | 'out' | 'recipe' | 'statistics';

/** A request with paths instead of folders and files, and its folders by name. */
export interface MountedRequest {
  readonly request: object;
  readonly folders: Readonly<Record<string, WebPlace>>;
}

/** Replaces folders and files in a request by paths, which begin with the folder's or the option's name. */
export function mountPlaces(request: object): MountedRequest {
  const names = new Map<unknown, string>();
  const folders: Record<string, WebPlace> = {};
  const mount = (place: WebPlace, as: string, key: unknown = place): string => {
    const known = names.get(key);
    if (known !== undefined) return known;
    const isFree = (name: string) => !Object.hasOwn(folders, name) && name !== HOME;
    let name = as;
    for (let count = 2; !isFree(name); count++) name = `${as}-${count}`;
    folders[name] = place;
    names.set(key, name);
    return name;
  };
  const visit = (value: unknown, option: string): unknown => {
    if (isFile(value)) return `/${mount(new Map([[value.name, value]]), option, value)}/${value.name}`;
    if (FOLDER_OPTIONS.has(option) && isPlace(value)) return `/${mount(value, nameOf(value) || option)}`;
    if (Array.isArray(value)) return value.map((item) => visit(item, option === 'models' ? 'model' : option));
    return isPlain(value) ? visitAll(value) : value;
  };
  const visitAll = (options: object): object =>
    Object.fromEntries(Object.entries(options).map(([name, value]) => [name, visit(value, name)]));
  return { request: visitAll(request), folders };
}

function isFile(value: unknown): value is ChosenFile {
  return typeof value === 'object' && value !== null && 'size' in value && 'slice' in value && 'name' in value;
}

function isPlace(value: unknown): value is WebPlace {
  if (value instanceof Map) return true;
  if (Array.isArray(value)) return value.length > 0 && value.every(isFile);
  return typeof value === 'object' && value !== null && 'getFileHandle' in value;
}

/** Name of a folder; empty for nothing. */
function nameOf(place: WebPlace): string {
  if (place instanceof Map) return '';
  if ('getFileHandle' in place) return place.name;
  const { webkitRelativePath = '' } = place[0]!;
  return webkitRelativePath.slice(0, Math.max(0, webkitRelativePath.indexOf('/')));
}

function isPlain(value: unknown): value is object {
  return typeof value === 'object' && value !== null && Object.getPrototypeOf(value) === Object.prototype;
}
