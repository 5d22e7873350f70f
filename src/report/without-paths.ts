/** Fields that quote text, which is not changed. */
const QUOTING: ReadonlySet<string> = new Set(['samples', 'tokens', 'examples']);

/** Fields with sentences, which may begin with the name of a node, such as `/model/layers.0`. */
const SENTENCES: ReadonlySet<string> = new Set(['remarks', 'note']);

const ABSOLUTE = /^(?:~?[\\/]|[A-Za-z]:[\\/]|\.\.[\\/])/;

/** Paths in sentences, recognised by common system folders, since names of nodes begin with a slash too. */
const SYSTEM_PATH =
  /(?<![\w.\\/-])(?:\/(?:home|Users|root|tmp|private|var|mnt|media|opt|srv|usr|etc|Volumes)[\\/]|[A-Za-z]:\\)[^\s'"`<>|]*/g;

/** Whether a path is absolute, or leads out of the working folder. */
export const isAbsolutePath = (path: string): boolean => ABSOLUTE.test(path);

/** Paths that sentences may contain. */
export interface KnownPlaces {
  /** Absolute paths, which become names too. */
  readonly paths?: readonly string[];
  /** Absolute folders; paths inside become relative to them. */
  readonly folders?: readonly string[];
}

/**
 * Replaces absolute paths in plain data by names: the last part, or as many parts as make the name unique. Relative paths and
 * quoted text are not changed.
 */
export function withoutPaths<T>(value: T, { paths: known = [], folders: roots = [] }: KnownPlaces = {}): T {
  const texts = new Set<string>();
  visit(value, (text, isSentence) => {
    if (!isSentence) texts.add(text);
    return text;
  });
  const paths = new Set([...texts, ...known].filter((text) => isAbsolutePath(text) && partsOf(text).length > 0));
  const names = shortNames(paths, texts);
  const parts = [...paths]
    .sort((a, b) => b.length - a.length)
    .map((path) => [withoutEnd(path), names.get(path)!] as const);
  const folders = [...new Set([...roots, ...[...paths].map(folderOf)])]
    .filter((folder) => folder.length > 1)
    .sort((a, b) => b.length - a.length)
    .flatMap((folder) => ['/', '\\'].map((slash) => [`${withoutEnd(folder)}${slash}`, ''] as const));
  const shorten = (sentence: string): string => {
    let text = sentence;
    for (const [path, name] of [...parts, ...folders]) text = replacePath(text, path, name);
    return text.replace(SYSTEM_PATH, (path) => lastParts(path, 1));
  };
  return visit(value, (text) => names.get(text) ?? shorten(text)) as T;
}

/** Replaces texts in plain data, except quoted ones. */
function visit(value: unknown, replace: (text: string, isSentence: boolean) => string, field = ''): unknown {
  if (typeof value === 'string') return replace(value, SENTENCES.has(field));
  if (Array.isArray(value)) return value.map((item) => visit(item, replace, field));
  if (typeof value !== 'object' || value === null || ArrayBuffer.isView(value)) return value;
  return Object.fromEntries(
    Object.entries(value).map(([name, item]) => [name, QUOTING.has(name) ? item : visit(item, replace, name)]),
  );
}

/** The fewest last parts of each path that are unique among paths and texts. */
function shortNames(paths: ReadonlySet<string>, texts: ReadonlySet<string>): ReadonlyMap<string, string> {
  const nameOf = (path: string): string => {
    const parts = partsOf(path);
    const others = [...paths].filter((other) => !other.includes(path) && partsOf(other).join('/') !== parts.join('/'));
    const isUsed = (name: string) => texts.has(name) || others.some((other) => endsIn(other, name));
    let count = 1;
    while (count < parts.length && isUsed(lastParts(path, count))) count += 1;
    return lastParts(path, count);
  };
  return new Map([...paths].map((path) => [path, nameOf(path)]));
}

const endsIn = (path: string, name: string): boolean => `/${partsOf(path).join('/')}`.endsWith(`/${name}`);

const lastParts = (path: string, count: number): string => partsOf(path).slice(-count).join('/') || path;

const partsOf = (path: string): string[] => path.split(/[\\/]/).filter((part) => !['', '.', '..'].includes(part));

const folderOf = (path: string): string => withoutEnd(path).replace(/[\\/][^\\/]*$/, '');

const withoutEnd = (path: string): string => path.replace(/[\\/]+$/, '');

/** Replaces all occurrences of a path in a sentence, except inside other paths. It may be too long for a regular expression. */
function replacePath(sentence: string, path: string, name: string): string {
  let text = '';
  let from = 0;
  for (let at = sentence.indexOf(path); at >= 0; at = sentence.indexOf(path, from)) {
    const isInside = /[\w.\\/-]/.test(sentence.charAt(at - 1));
    text += sentence.slice(from, at) + (isInside ? path : name);
    from = at + path.length;
  }
  return text + sentence.slice(from);
}
